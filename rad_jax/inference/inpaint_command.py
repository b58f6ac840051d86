"""``rad-jax inpaint``: fills the holes of picture files with a trained model."""

import functools
from collections.abc import Collection
from pathlib import Path

from rad_jax.baselines.choice import Baseline
from rad_jax.baselines.methods import require_mask
from rad_jax.checkpoints.model import AnyModel, LamaModel, check_labels
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.inference.comparison import (
    cfg_1_note,
    how,
    non_finite_help,
    require_plain,
)
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.inpaint import fill_by_seed
from rad_jax.inference.inpaint_files import inpaint_files
from rad_jax.inference.lama import ONE_PASS, require_one_pass
from rad_jax.inference.results import png_text
from rad_jax.inference.sizes import require_untiled, sizes_of
from rad_jax.inference.strategy import StrategyOptions


def fill_files(
    model: AnyModel,
    image: Path,
    mask: Path | None,
    output: Path,
    sampling: SamplingOptions | Baseline,
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
      sampling: how holes are filled, by RAD or another method.
      files: how many, how they are seeded, and how many at once.
      strategy: how pictures larger than the model are filled.
      given: names of options that somebody has written, see `require_one_pass`.

    Returns:
      The exit code: 1 if some pictures of a folder could not be done.

    Raises:
      UserError: options do not fit the model, or as `inpaint_files`.
    """
    strategy = strategy or StrategyOptions()
    note = None
    if isinstance(sampling, Baseline):
        require_untiled(strategy.strategy)
        sampler = how(require_plain(model, sampling.method), sampling)
    elif isinstance(model, LamaModel):
        require_one_pass(
            sampling,
            num_samples=files.num_samples,
            feather=files.feather,
            strategy=strategy.strategy,
            given=given,
        )
        sampler = ONE_PASS
    else:
        sampler, note = str(sampling), cfg_1_note(model)
    if sampling.label is None:  # of a model with classes: refused before files are read
        check_labels(model.config, None)
    code = inpaint_files(
        _fills(model, sampling),
        image,
        mask,
        output,
        channels=model.channels,
        sizes=sizes_of(model, sampling),
        options=files,
        strategy=strategy,
        text=png_text(sampler, files.seed, sampling.label),
    )
    if note:
        print(note)
    return code


def _fills(model: AnyModel, sampling: SamplingOptions | Baseline) -> Fills:
    whole = fill_by_seed(model, sampling)
    if isinstance(sampling, Baseline):
        method = sampling.method
        check = functools.partial(require_mask, method)
        return Fills(whole, whole, check, non_finite_help(method))
    return Fills(whole, fill_by_seed(model, sampling, tiled=True))
