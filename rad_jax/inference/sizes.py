"""Which sizes of images a model fills well, whatever its architecture."""

from rad_jax.baselines.choice import Baseline
from rad_jax.checkpoints.model import AnyModel, LamaModel
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.inference import lama
from rad_jax.inference.regions import Sizes, denoiser_sizes


def sizes_of(
    model: AnyModel, options: SamplingOptions | Baseline | None = None
) -> Sizes:
    """The sizes of a model's images; other methods than RAD know no tiles."""
    if isinstance(model, LamaModel):
        return lama.SIZES
    sizes = denoiser_sizes(model.image_size, model.stride)
    return sizes._replace(tiled=False) if isinstance(options, Baseline) else sizes


def require_untiled(strategy: str) -> None:
    """Refuses tiles for another method than RAD.

    Raises:
      UserError: saying what there is.
    """
    if strategy == "tile":
        raise UserError("strategy tile is RAD's; use auto, crop, resize or whole")
