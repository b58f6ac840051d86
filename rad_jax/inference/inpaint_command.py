"""``rad-jax inpaint``: fills the holes of picture files with a trained model."""

from collections.abc import Collection
from pathlib import Path

from rad_jax.checkpoints.model import AnyModel, LamaModel, check_labels
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.inpaint import fill_by_seed
from rad_jax.inference.inpaint_files import inpaint_files
from rad_jax.inference.lama import ONE_PASS, require_one_pass
from rad_jax.inference.results import png_text
from rad_jax.inference.sizes import sizes_of
from rad_jax.inference.strategy import StrategyOptions


def fill_files(
    model: AnyModel,
    image: Path,
    mask: Path | None,
    output: Path,
    sampling: SamplingOptions,
    files: FileOptions,
    strategy: StrategyOptions | None = None,
    given: Collection[str] = (),
) -> int:
    """Fills the holes of a picture or of a folder of pictures, and writes files.

    The files carry version, seed, sampler, steps, grid and class.

    Args:
      model: from ``load``.
      image: a file, a folder or a pattern, as ``mask``: see `inpaint_files`.
      mask: white is filled; None if the options say where masks are.
      output: what exists is replaced.
      sampling: how holes are filled.
      files: how many, how they are seeded, and how many at once.
      strategy: how pictures larger than the model are filled.
      given: names of options that somebody has written, see `require_one_pass`.

    Returns:
      The exit code: 1 if some pictures of a folder could not be done.

    Raises:
      UserError: options do not fit the model, or as `inpaint_files`.
    """
    strategy = strategy or StrategyOptions()
    sampler = str(sampling)
    if isinstance(model, LamaModel):
        require_one_pass(
            sampling,
            num_samples=files.num_samples,
            feather=files.feather,
            strategy=strategy.strategy,
            given=given,
        )
        sampler = ONE_PASS
    if sampling.label is None:  # of a model with classes: refused before files are read
        check_labels(model.config, None)
    return inpaint_files(
        Fills(fill_by_seed(model, sampling), fill_by_seed(model, sampling, tiled=True)),
        image,
        mask,
        output,
        channels=model.channels,
        sizes=sizes_of(model),
        options=files,
        strategy=strategy,
        text=png_text(sampler, files.seed, sampling.label),
    )
