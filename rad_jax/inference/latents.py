"""Filling pictures by a base in latents: what stands around the sampler.

The picture is encoded with its hole filled up by what surrounds it, holes of latents
are filled as those of pixels are, and what is decoded goes into the picture's hole
alone: known pixels are those of the picture, bit for bit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rad_jax.checkpoints.model import Model
from rad_jax.diffusion.latents import decode, encode, latent_masks
from rad_jax.diffusion.options import SEAM
from rad_jax.errors import UserError
from rad_jax.inference.blending import feathered, pasted, seamless
from rad_jax.inference.prompts import told
from rad_jax.models.apply import Params
from rad_jax.models.autoencoder import Latents
from rad_jax.models.autoencoder_config import AutoencoderConfig
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.typing import Images, Masks

FEATHER = 2
"""Cells inside the hole over which "feather" blends."""


class Through(NamedTuple):
    """How pictures become latents and come back; None for a base in pixels.

    Attributes:
      codec: the autoencoder.
      seam: what is done where the hole ends, one of `options.SEAMS`.
      text: the encoder of prompts, if it is told some.
    """

    codec: AutoencoderConfig
    seam: str
    text: CLIPConfig | None


def through_of(model: Model, seam: str | None) -> Through | None:
    """Of a model.

    Raises:
      UserError: it is in pixels, and a seam was chosen.
    """
    if model.codec:
        text = model.text.config if model.text else None
        return Through(model.codec.config, seam or SEAM, text)
    if seam is not None:
        raise UserError(
            f"seam is {seam}, of models in latents; this one fills the pixels "
            "themselves: leave it out"
        )
    return None


def to_latents(
    through: Through, params: Params, images: Images, masks: Masks
) -> tuple[Latents, Float[Array, "b y x"]]:
    """Latents of pictures with holes, and the holes of the latents."""
    cells = latent_masks(masks, through.codec.stride)
    return encode(through.codec, params, images, masks), cells


def to_pictures(
    through: Through, params: Params, latents: Latents, images: Images, masks: Masks
) -> Images:
    """The pictures, with what latents say in their holes."""
    decoded = jnp.clip(decode(through.codec, params, latents), -1, 1)
    if through.seam == "paste":
        return pasted(images, decoded, masks)
    if through.seam == "feather":
        width = FEATHER * through.codec.stride
        blended = feathered(images, decoded, masks, width)
    else:
        blended = seamless(images, decoded, masks)
    return pasted(images, jnp.clip(blended, -1, 1), masks)


def filled_through(
    through: Through, fill: Callable[..., Images]
) -> Callable[..., Images]:
    """The function of pictures whose sampler fills latents.

    Args:
      through: the way there and back.
      fill: ``fill(params, stack, start, latents, masks, keys, labels)``.

    Returns:
      The same function of pictures; its first argument has the parameters of both, as
      `program_params` gives them.
    """

    def run(params: Any, stack, start, images, masks, keys, labels) -> Images:
        codec = params["codec"]
        latents, cells = to_latents(through, codec, images, masks)
        if through.text:
            labels = told(through.text, params["text"], labels)
        filled = fill(params["params"], stack, start, latents, cells, keys, labels)
        return to_pictures(through, codec, filled, images, masks)

    return run
