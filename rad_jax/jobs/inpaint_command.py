"""``rad-jax inpaint``: fills the holes of picture files with a trained model."""

import contextlib
import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rad_jax.baselines.choice import Baseline
from rad_jax.baselines.methods import require_mask
from rad_jax.checkpoints.fingerprint import fingerprint
from rad_jax.checkpoints.model import AnyModel, LamaModel, check_labels
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, in_bucket
from rad_jax.files.collect import is_many
from rad_jax.files.decode import SUFFIXES
from rad_jax.files.destination import destination, require_writable
from rad_jax.files.formats import require_quality
from rad_jax.files.remarks import Remarks
from rad_jax.inference.comparison import (
    cfg_1_note,
    how,
    non_finite_help,
    require_plain,
)
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.inpaint import fill_by_seed
from rad_jax.inference.inpaint_file import inpaint_file
from rad_jax.inference.lama import ONE_PASS, require_one_pass
from rad_jax.inference.picture_fill import FillSettings
from rad_jax.inference.prompts import cut_note
from rad_jax.inference.results import png_text
from rad_jax.inference.sizes import require_untiled, sizes_of
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.jobs.division import Division, division_of
from rad_jax.jobs.folder import fill_folder
from rad_jax.jobs.record import Job
from rad_jax.jobs.shard_entry import Shard
from rad_jax.jobs.shard_kinds import Columns
from rad_jax.jobs.shards import fill_shards


class Prepared(NamedTuple):
    """A model and how it fills picture files.

    Attributes:
      model: gives the fingerprint of the model, for which all of it is read.
      sampler: the method in one line.
      label: class of the pictures.
      settings: how they are filled.
      note: what there is to say at the end; "" for nothing.
    """

    model: Callable[[], str]
    sampler: str
    label: int | None
    settings: FillSettings
    note: str


def prepare_files(
    model: AnyModel,
    sampling: SamplingOptions | Baseline,
    files: FileOptions,
    strategy: StrategyOptions | None = None,
    given: Collection[str] = (),
) -> Prepared:
    """What depends on the model and its options alone.

    Args:
      model: from ``load``.
      sampling: how holes are filled, by RAD or another method.
      files: how many, how they are seeded, and how many at once.
      strategy: how pictures larger than the model are filled.
      given: names of options that somebody has written, see `require_one_pass`.

    Raises:
      UserError: options do not fit the model.
    """
    strategy = strategy or StrategyOptions()
    sampler, note = _sampler(model, sampling, files, strategy, given)
    if sampling.label is None:  # of a model with classes: refused before files are read
        check_labels(model.config, None)
    settings = FillSettings(
        _fills(model, sampling),
        model.channels,
        sizes_of(model, sampling),
        files,
        strategy,
        png_text(sampler, files.seed, sampling.label),
    )
    # Of one picture nobody asks for it.
    own = functools.cache(functools.partial(fingerprint, model))
    return Prepared(own, sampler, sampling.label, settings, note or "")


def inpaint_files(
    prepared: Prepared,
    image: AnyPath,
    mask: AnyPath | None,
    output: AnyPath,
    division: Division | None = None,
) -> int:
    """Fills the holes of a picture or of many, and writes files.

    The files carry version, seed, sampler, steps, grid and class.

    Args:
      prepared: the model and its options.
      image: a file, a folder or a pattern, as ``mask``: see `fill_folder`.
      mask: white is filled; None if the options say where masks are.
      output: of one picture, what exists is replaced; of many, what is there of the
        same job is kept.
      division: which of many pictures are this worker's; by default what a scheduler's
        variables say.

    Returns:
      The exit code: 1 if some pictures of many could not be done.

    Raises:
      UserError: as `inpaint_file` and `fill_folder`.
    """
    settings, remarks, code = prepared.settings, Remarks(), 0
    form = settings.options.format
    if in_bucket(image) or in_bucket(output) or is_many(image):
        with _names_for(output) as names:
            target = destination(names, form, alone=False)
            _check_format(target.form, output, settings.options, remarks)
            job = _job(prepared, image, mask)
            division = division or division_of(os.environ)
            code = fill_folder(
                image, mask, target, output, settings, job, division, remarks
            )
    else:
        target = destination(output, form, alone=True)
        _check_format(target.form, output, settings.options, remarks)
        assert mask is None or not in_bucket(mask)  # `require_pictures`
        inpaint_file(image, mask, target, settings, remarks)
    if prepared.note:
        print(prepared.note)
    return code


@contextlib.contextmanager
def _names_for(output: AnyPath) -> Iterator[Path]:
    """A folder of this machine for the names of results; of a bucket's none is there.

    Raises:
      UserError: it is the name of a file.
    """
    if not in_bucket(output):
        yield output
    elif output.name.lower().endswith(SUFFIXES):
        raise UserError(
            f"{output}: results in a bucket need a folder; give a folder's name"
        )
    else:
        with tempfile.TemporaryDirectory(prefix="rad_jax-") as folder:
            yield Path(folder)


def inpaint_shards(
    prepared: Prepared,
    shards: Sequence[Shard],
    image: AnyPath,
    mask: AnyPath | None,
    output: AnyPath,
    columns: Columns,
    division: Division | None = None,
) -> int:
    """The same of shards of pictures, into as many shards of results.

    Args:
      prepared: the model and its options.
      shards: from `find_shards`.
      image: where they were found.
      mask: where their masks were.
      output: a folder.
      columns: where tables have what.
      division: which shards are this worker's.

    Returns:
      The exit code: 1 if pictures or shards could not be done.

    Raises:
      UserError: as `fill_shards`.
    """
    settings, remarks = prepared.settings, Remarks()
    if not in_bucket(output):
        require_writable(output)
    form = settings.options.format or "png"
    _check_format(form, output, settings.options, remarks)
    job = _job(prepared, image, mask)
    division = division or division_of(os.environ)
    code = fill_shards(shards, output, form, settings, job, division, columns, remarks)
    if prepared.note:
        print(prepared.note)
    return code


def _check_format(
    form: str, output: AnyPath, options: FileOptions, remarks: Remarks
) -> None:
    require_quality(options.quality, form)
    if form == "jpeg":
        remarks.add(
            output, "known pixels may change in JPEG; in other formats they stay"
        )


def _sampler(
    model: AnyModel,
    sampling: SamplingOptions | Baseline,
    files: FileOptions,
    strategy: StrategyOptions,
    given: Collection[str],
) -> tuple[str, str | None]:
    """The method in one line, and what there is to note of it."""
    if isinstance(sampling, Baseline):
        require_untiled(strategy.strategy)
        return how(require_plain(model, sampling.method), sampling), None
    if isinstance(model, LamaModel):
        require_one_pass(
            sampling,
            num_samples=files.num_samples,
            feather=files.feather,
            strategy=strategy.strategy,
            given=given,
        )
        return ONE_PASS, None
    resolved = sampling.for_model(model.few_steps)
    return str(resolved), cut_note(model, resolved) or cfg_1_note(model)


def _job(prepared: Prepared, image: AnyPath, mask: AnyPath | None) -> Job:
    """What the results are of; batches may have any size."""
    settings = prepared.settings
    options = dataclasses.asdict(settings.options)
    options |= dataclasses.asdict(settings.strategy)
    for name in ("batch_size", "overwrite"):
        del options[name]
    options["label"] = prepared.label
    masks = "" if mask is None else _absolute(mask)
    length = settings.options.batch_size
    return Job(
        _absolute(image), masks, prepared.model(), prepared.sampler, options, length
    )


def _absolute(path: AnyPath) -> str:
    return str(path) if in_bucket(path) else os.path.abspath(path)


def _fills(model: AnyModel, sampling: SamplingOptions | Baseline) -> Fills:
    whole = fill_by_seed(model, sampling)
    if isinstance(sampling, Baseline):
        method = sampling.method
        check = functools.partial(require_mask, method)
        return Fills(whole, whole, check, non_finite_help(method))
    return Fills(whole, fill_by_seed(model, sampling, tiled=True))
