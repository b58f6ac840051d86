"""Writes a data set to disk, in ArrayRecord format, without TensorFlow."""

import contextlib
import difflib
import io
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from etils import epath

from rad_jax.data import records
from rad_jax.errors import UserError, first_line
from rad_jax.files.paths import local_path, plain
from rad_jax.prepare.digits import Digits
from rad_jax.prepare.image_sets import IMAGE_SETS
from rad_jax.prepare.images import VERSION, check_size, prepare_images
from rad_jax.prepare.photos import Photos
from rad_jax.prepare.shards import unwritable

SIZE = 256  # pixels per side, by default

BUILDERS: dict[str, type[tfds.core.GeneratorBasedBuilder]] = {
    "digits": Digits,
    "photos": Photos,
}


def prepare(
    name: str,
    data_dir: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    size: int | None = None,
    num_workers: int | None = None,
    num_train: int | None = None,
    labels: bool = False,
) -> epath.Path:
    """Prepares a data set, unless it is there already, and prints where it is.

    A data set is there as a whole or not at all. One of image files that was begun is
    gone on with.

    Args:
        name: one of ``BUILDERS`` or ``IMAGE_SETS``; with a source, any other one.
        data_dir: the folder that holds TFDS data sets; made if needed.
        source: where the image files are, for all but ``BUILDERS``; see
            ``sources.open_images``. The other arguments go with it.
        size: pixels per side to scale and crop them to; by default 256.
        num_workers: processes; by default one for each core. More than 1 need a main
            module that can be imported: ``if __name__ == "__main__":``.
        num_train: images to train on at most; by default all, or what is known of the
            data set.
        labels: the folders that images lie in are their classes.

    Returns:
        The folder of the data set, ``data_dir/name/version``.

    Raises:
        UserError: the name is unknown, the source holds no images, the folder cannot
            be written, or the data set that it holds is damaged or of another size.
    """
    if name in BUILDERS:
        _check_no_flags(name, (source, size, num_workers, num_train, labels or None))
    data_dir = plain(data_dir)
    if source is not None and "://" in data_dir:
        raise UserError(f"{data_dir}: prepare into a local folder, then copy it")
    version = str(BUILDERS[name].VERSION) if name in BUILDERS else VERSION
    folder = epath.Path(data_dir) / name / version
    already = folder.exists()
    if not already and name in BUILDERS:
        _build(BUILDERS[name], data_dir, folder)
    elif not already:
        prepare_images(
            name,
            Path(folder.parents[1]),
            _checked_source(name, source, labels),
            size=size or SIZE,
            num_workers=num_workers or len(os.sched_getaffinity(0)),
            num_train=num_train,
            labels=labels,
        )
    _check(f"{name}:{version}", data_dir, folder)
    if already and name not in BUILDERS:
        check_size(name, Path(folder.parents[1]), size or SIZE)
    print(f"{name}: {'already ' if already else ''}prepared in {folder}")
    return folder


def _check_no_flags(name: str, given: Sequence[object]) -> None:
    """Refuses what a builder, which makes its own images, has no use for."""
    if any(value is not None for value in given):
        raise UserError(f"data set {name!r}: takes no --source, nor what goes with it")


def _checked_source(
    name: str, source: str | os.PathLike[str] | None, labels: bool
) -> Path:
    """The source; refuses a name that no data set can have or has, and stray flags."""
    if name in IMAGE_SETS and source is None:
        raise UserError(
            f"data set {name!r}: give --source, {IMAGE_SETS[name].wants}; see "
            "docs/data.md"
        )
    if labels and name in IMAGE_SETS and not IMAGE_SETS[name].num_classes:
        raise UserError(f"data set {name!r}: has no classes; leave out --labels")
    if source is None:
        known = [*BUILDERS, *IMAGE_SETS]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"data set {name!r}: unknown; {hint}known names: {', '.join(known)}; "
            "to make one of your own images, give --source"
        )
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name == "folder":
        raise UserError(
            f"data set {name!r}: cannot be its name; use lower-case letters, digits "
            "and _, a letter first, and not 'folder', which configs give to images "
            "that are not prepared"
        )
    return local_path(source)


def _build(
    builder_class: type[tfds.core.GeneratorBasedBuilder],
    data_dir: str | os.PathLike[str],
    folder: epath.Path,
) -> None:
    try:
        _write(builder_class, data_dir)
    except UserError:
        # Another process may have prepared it meanwhile; then all is well.
        if not folder.exists():
            raise


def _write(
    builder_class: type[tfds.core.GeneratorBasedBuilder],
    data_dir: str | os.PathLike[str],
) -> None:
    """Runs the builder, silencing tfds's prints and bars: the builder shows ours."""
    tfds.disable_progress_bar()
    try:
        # ArrayRecord is read by index, and without TensorFlow.
        builder = builder_class(data_dir=data_dir, file_format="array_record")
        with (
            # TFDS makes a folder for downloads, even of none, else in data_dir.
            tempfile.TemporaryDirectory() as downloads,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            builder.download_and_prepare(download_dir=downloads)
    except (OSError, RuntimeError) as error:
        raise unwritable(data_dir, error) from error


def _check(name: str, data_dir: str | os.PathLike[str], folder: epath.Path) -> None:
    """Refuses a folder that has the data set's name but cannot be read as one."""
    try:
        builder = records.open_data_set(name, data_dir)
        # The description may be whole where a split's file is not.
        for split in builder.info.splits:
            records.open_split(builder, split)
    except UserError as error:
        raise UserError(
            f"{folder}: is damaged, incomplete or not ours to read "
            f"({first_line(error.__cause__ or error)[:200]}); {records.AGAIN}"
        ) from error
