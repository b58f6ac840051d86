"""A denoiser of images larger than its network: tiles, blended in every reverse step.

After MultiDiffusion (Bar-Tal et al., 2023): the network sees overlapping tiles of its
own size, and what it predicts is averaged where they overlap. The reverse step is that
of the whole image.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from rad_jax.diffusion.schedule import Step
from rad_jax.typing import Images, Outputs


def tile_step(tile: int, stride: int) -> int:
    """Pixels from a tile to the next: half of it, in whole strides of the network."""
    return max(stride, tile // 2 // stride * stride)


def tile_corners(size: tuple[int, int], tile: int, step: int) -> list[tuple[int, int]]:
    """Top and left of the tiles of an image.

    Args:
      size: height and width, `tile` or more.
      tile: pixels of a tile's side.
      step: from a tile to the next; the last of a row or column may be nearer.
    """
    rows, columns = ((*range(0, n - tile, step), n - tile) for n in size)
    return list(itertools.product(rows, columns))


def tiled(
    denoise: Callable[[Images, Step], Outputs], tile: int, step: int
) -> Callable[[Images, Step], Outputs]:
    """A denoiser of larger images, from one of their tiles as `cut` orders them."""

    def large(x: Images, at: Step) -> Outputs:
        size = (x.shape[1], x.shape[2])
        return blend(denoise(cut(x, tile, step), at), size, tile, step)

    return large


def cut(
    x: Shaped[Array, "b h w *c"], tile: int, step: int
) -> Shaped[Array, "n tile tile *c"]:
    """The tiles of images, those of an image one after the other."""
    corners = tile_corners((x.shape[1], x.shape[2]), tile, step)
    tiles = [x[:, top : top + tile, left : left + tile] for top, left in corners]
    return jnp.stack(tiles, axis=1).reshape(-1, *tiles[0].shape[1:])


def blend(
    tiles: Outputs, size: tuple[int, int], tile: int, step: int
) -> Float[Array, "images height width channels"]:
    """The images of which these are the tiles; where they overlap, a weighted mean.

    A tile counts most in its middle, and little at its rim, where it sees least.

    Args:
      tiles: as `cut` orders them.
      size: height and width of the images.
      tile: pixels of a tile's side.
      step: from a tile to the next.
    """
    corners = tile_corners(size, tile, step)
    each = jnp.moveaxis(tiles.reshape(-1, len(corners), *tiles.shape[1:]), 1, 0)
    rise = 1 - np.abs((np.arange(tile) + 0.5) * 2 / tile - 1)
    window = np.outer(rise, rise)[None, :, :, None].astype(np.float32)
    total = np.zeros((1, *size, 1), np.float32)
    for top, left in corners:
        total[:, top : top + tile, left : left + tile] += window
    image = jnp.zeros((each.shape[1], *size, tiles.shape[-1]), tiles.dtype)
    for (top, left), one in zip(corners, each, strict=True):
        image = jax.lax.dynamic_update_slice(
            image,
            image[:, top : top + tile, left : left + tile] + one * window,
            (0, top, left, 0),
        )
    return image / total
