"""Which sizes of images a model fills well, whatever its architecture."""

from rad_jax.checkpoints.model import AnyModel, LamaModel
from rad_jax.inference import lama
from rad_jax.inference.regions import Sizes, denoiser_sizes


def sizes_of(model: AnyModel) -> Sizes:
    """The sizes of a model's images."""
    if isinstance(model, LamaModel):
        return lama.SIZES
    return denoiser_sizes(model.config.image_size, model.config.stride)
