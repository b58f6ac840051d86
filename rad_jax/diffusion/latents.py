"""From images to the latents that are diffused, and back: pure functions of arrays.

A hole in pixels is one in latents where a cell has any of it, and what was in it goes
nowhere: it is filled before the image is encoded. What is decoded is not what was
encoded, so known pixels are pasted afterwards (`inference.blending`).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rad_jax.diffusion.harmonic import spread
from rad_jax.diffusion.tiles import blend, cut, tile_step
from rad_jax.errors import UserError
from rad_jax.models.autoencoder import Latents, Params, make_decode, make_encode
from rad_jax.models.autoencoder_config import AutoencoderConfig
from rad_jax.typing import Images, Masks

Fill = Literal["smooth", "grey"]
"""What stands in the hole while an image is encoded: what surrounds it, or 0."""

MOST_DILATED = 2
"""Cells by which a hole may be widened: as far as an encoder sees sharply."""


def latent_masks(masks: Masks, stride: int, dilation: int = 0) -> Float[Array, "b y x"]:
    """The masks of latents: of each cell the largest value of its pixels.

    A sample per cell would lose holes that are thinner than it, and leave known cells
    that have something of the hole.

    Args:
      masks: (b, h, w), 1 in the hole, 0 where the image is known, between: soft.
      stride: pixels along a side of a cell (`AutoencoderConfig.stride`).
      dilation: cells by which each hole is widened, 0 to `MOST_DILATED`: an encoder
        sees beyond a cell, so known cells beside the hole have a little of its filling.

    Returns:
      (b, ceil(h / stride), ceil(w / stride)). A cell that reaches beyond the image is
      one of the hole.

    Raises:
      UserError: no such dilation.
    """
    if not 0 <= dilation <= MOST_DILATED:
        raise UserError(
            f"the dilation of a latent mask is {dilation}; use 0 to {MOST_DILATED}"
        )
    cells = _max_pool(_padded(masks, stride, 1.0), stride, stride, 0)
    return _max_pool(cells, 2 * dilation + 1, 1, dilation)


def _max_pool(masks: Array, side: int, stride: int, around: int) -> Array:
    window, strides = (1, side, side), (1, stride, stride)
    padding = ((0, 0), (around, around), (around, around))
    return jax.lax.reduce_window(masks, -jnp.inf, jax.lax.max, window, strides, padding)


def _padded(x: Array, stride: int, value: float) -> Array:
    """Images or masks with whole cells, below and to the right."""
    pads = [(0, -side % stride) for side in x.shape[1:3]]
    rest = [(0, 0)] * (x.ndim - 3)
    return jnp.pad(x, [(0, 0), *pads, *rest], constant_values=value)


def filled_holes(images: Images, masks: Masks, fill: Fill = "smooth") -> Images:
    """Images with nothing of what was in their holes, which may be not finite.

    Where a mask is soft the image is kept: its latents are not all noise.

    Args:
      images: (b, h, w, c) in [-1, 1].
      masks: (b, h, w), 1 in the hole.
      fill: "smooth" goes on with what surrounds the hole, so that the encoder sees no
        edge that is not in the image; "grey" is 0, as in diffusers.
    """
    seen = masks[..., None] < 1
    visible = jnp.where(seen, images, 0)
    return visible if fill == "grey" else spread(visible, seen)


def encode(
    config: AutoencoderConfig,
    params: Params,
    images: Images,
    masks: Masks,
    fill: Fill = "smooth",
) -> Latents:
    """The latents of images with holes, scaled as the network has them.

    Always the same ones: the mean of the encoder's Gaussian, or what codes would be
    chosen for. Cells whose mask is 1 (`latent_masks`) say nothing of the image.

    Args:
      config: of the autoencoder.
      params: its parameters.
      images: (b, h, w, c) in [-1, 1], of any size; the hole may hold anything.
      masks: (b, h, w), 1 in the hole.
      fill: see `filled_holes`.

    Returns:
      (b, ceil(h / f), ceil(w / f), latent channels) with the autoencoder's stride f.
      Beyond the image is hole.
    """
    images = _padded(images, config.stride, 0.0)
    whole = filled_holes(images, _padded(masks, config.stride, 1.0), fill)
    return make_encode(config)(params, whole).mean * config.scaling_factor


def decode(config: AutoencoderConfig, params: Params, latents: Latents) -> Images:
    """The images of scaled latents, (b, f y, f x, c), about in [-1, 1], not clipped."""
    return make_decode(config)(params, latents / config.scaling_factor)


def decode_tiles(
    config: AutoencoderConfig, params: Params, latents: Latents, tile: int
) -> Images:
    """The same by overlapping tiles, one after the other, where memory is short.

    An approximation: the decoder's attention and normalisations are of all that it is
    given, a tile here. Tiles overlap by half, and each counts most in its middle. With
    random weights and latents, where they differ most, the images of 32 x 32 cells are
    off by 8% of their standard deviation in tiles of 24, by 18% in tiles of 16 and 43%
    in tiles of 8 (root mean square). One tile is `decode`, bit for bit.

    Args:
      config: of the autoencoder.
      params: its parameters.
      latents: (b, y, x, z), scaled.
      tile: cells along a side of a tile; less where the latents have less.

    Raises:
      UserError: no such tile.
    """
    if tile < 1:
        raise UserError(f"the tile of latents is {tile}; give 1 cell or more")
    size = latents.shape[1], latents.shape[2]
    if tile >= max(size):
        return decode(config, params, latents)
    side = min(tile, *size)
    step, stride = tile_step(side, 1), config.stride
    tiles = jax.lax.map(
        lambda one: decode(config, params, one[None])[0], cut(latents, side, step)
    )
    whole = size[0] * stride, size[1] * stride
    return blend(tiles, whole, side * stride, step * stride)
