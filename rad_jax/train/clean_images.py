"""What a network denoises, of pictures as bytes: themselves, or their latents."""

from collections.abc import Callable

from jaxtyping import Array

from rad_jax.config.experiment import Experiment
from rad_jax.files.pixel_ranges import to_float
from rad_jax.models.autoencoder import make_encode
from rad_jax.train.state import Frozen
from rad_jax.typing import Images


def clean_images(experiment: Experiment) -> Callable[[Frozen, Array], Images]:
    """``clean(frozen, images as bytes)``: (b, h, w, c) in [-1, 1], or latents.

    Latents are the means of their Gaussians, as where holes are filled.
    """
    if experiment.codec is None:
        return lambda frozen, images: to_float(images)
    encode, scale = make_encode(experiment.codec), experiment.codec.scaling_factor

    def latents(frozen: Frozen, images: Array) -> Images:
        return scale * encode(frozen.codec, to_float(images)).mean

    return latents
