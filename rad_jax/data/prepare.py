"""Writes a data set to disk, in ArrayRecord format, without TensorFlow."""

import contextlib
import difflib
import io
import os
import re
import tempfile

import tensorflow_datasets as tfds
from etils import epath

from rad_jax.data import pipeline
from rad_jax.data.digits import Digits
from rad_jax.errors import UserError

BUILDERS: dict[str, type[tfds.core.GeneratorBasedBuilder]] = {"digits": Digits}


def prepare(name: str, data_dir: str | os.PathLike[str]) -> epath.Path:
    """Prepares a data set, unless it is there already, and prints where it is.

    tfds writes into a folder ``incomplete.*`` and renames it at the end, so a data set
    is there as a whole or not at all.

    Args:
        name: one of ``BUILDERS``.
        data_dir: the folder that holds TFDS data sets; made if needed.

    Returns:
        The folder of the data set, ``data_dir/name/version``.

    Raises:
        UserError: the name is unknown, the folder cannot be written, or the data set
            that it holds is damaged.
    """
    if name not in BUILDERS:
        near = difflib.get_close_matches(name, BUILDERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"data set {name!r}: unknown; {hint}known names: {', '.join(BUILDERS)}"
        )
    version = str(BUILDERS[name].VERSION)
    folder = epath.Path(data_dir).expanduser() / name / version
    already = folder.exists()
    if not already:
        try:
            _write(BUILDERS[name], data_dir)
        except UserError:
            # Another process may have prepared it meanwhile; then all is well.
            if not folder.exists():
                raise
    _check(f"{name}:{version}", data_dir, folder)
    print(f"{name}: {'already ' if already else ''}prepared in {folder}")
    return folder


def _write(
    builder_class: type[tfds.core.GeneratorBasedBuilder],
    data_dir: str | os.PathLike[str],
) -> None:
    """Runs the builder, silencing tfds's prints and bars: the builder shows ours."""
    tfds.disable_progress_bar()
    try:
        builder = builder_class(data_dir=data_dir, file_format="array_record")
        with (
            tempfile.TemporaryDirectory() as downloads,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            builder.download_and_prepare(download_dir=downloads)
    except OSError as error:
        raise _unwritable(data_dir, error.strerror or str(error)) from error
    except RuntimeError as error:
        # ArrayRecord: "write() failed: No space left on device; writing ..."
        match = re.search(r"\(\) failed: ([^;]+)", str(error))
        if match is None:
            raise
        raise _unwritable(data_dir, match[1]) from error


def _unwritable(data_dir: str | os.PathLike[str], reason: str) -> UserError:
    return UserError(
        f"{os.fspath(data_dir)}: cannot be written ({reason}); "
        "free some space or choose another --data_dir"
    )


def _check(name: str, data_dir: str | os.PathLike[str], folder: epath.Path) -> None:
    """Refuses a folder that has the data set's name but cannot be read as one."""
    try:
        builder = pipeline.open_data_set(name, data_dir)
        for split in builder.info.splits:
            pipeline.open_split(builder, split)
    except UserError as error:
        raise UserError(
            f"{folder}: is damaged or incomplete; delete it and prepare it again"
        ) from error
