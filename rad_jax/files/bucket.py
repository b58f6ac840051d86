"""Folders in a bucket (gs://, for results also s3://).

Such a path reads like pathlib's. But a bucket has no locks, no renames, and its files
do not grow: what is written line by line is written here and copied.
"""

import contextlib
import importlib.util
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec.core
from etils import epath
from fsspec.config import conf
from typing_extensions import TypeIs

from rad_jax.errors import UserError, first_line
from rad_jax.files.paths import plain

LIBRARIES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
"""By scheme of an address, the library that reads it, and our extra with that."""

CHUNK_BYTES = 2**24

AnyPath = Path | epath.Path
"""Of this machine, or of a bucket."""


def folder_at(place: str | AnyPath, schemes: Sequence[str] = ("gs",)) -> AnyPath:
    """The path of a folder, on this machine or, if it begins so, in a bucket.

    Args:
      place: a path, or an address.
      schemes: of buckets, of `LIBRARIES`; checkpoints are written to gs:// alone.

    Raises:
      UserError: it is an address of another kind, or its library is not installed, or
        as `plain`.
    """
    address = plain(place)
    if "://" not in address:
        return Path(address)
    scheme = address.partition("://")[0]
    if scheme not in schemes:
        known = " or ".join(f"{x}://" for x in schemes)
        raise UserError(f"{address}: give a folder, or an address that begins {known}")
    library, extra = LIBRARIES[scheme]
    if importlib.util.find_spec(library) is None:
        raise UserError(
            f"{address}: buckets need {library}: pip install 'rad-jax[{extra}]'"
        )
    # What it logs without being asked is a traceback; the error is told by us.
    logging.getLogger(library).addHandler(logging.NullHandler())
    # Other processes write there, too: what was listed once may be out of date.
    conf.setdefault(scheme, {})["use_listings_cache"] = False
    return epath.Path(address)


def in_bucket(path: AnyPath) -> TypeIs[epath.Path]:
    """Whether a path is one of a bucket."""
    return isinstance(path, epath.Path)


@contextlib.contextmanager
def bucket_errors(folder: AnyPath) -> Iterator[None]:
    """Around the first use of a folder: what is wrong with its bucket is one line.

    The libraries raise dozens of kinds of errors for a bucket.

    Raises:
      UserError: the bucket is not there, or not for us.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not in_bucket(folder):
            raise
        raise UserError(
            f"{folder}: cannot be reached ({first_line(error)[:200]}); check the "
            "bucket's name, and that this machine may read and write there"
        ) from error


def remove_folder(folder: AnyPath) -> None:
    """Removes a folder with all that is in it."""
    if in_bucket(folder):
        folder.rmtree()
    else:
        shutil.rmtree(folder)


def copy_files(files: Iterable[AnyPath], source: AnyPath, target: AnyPath) -> None:
    """Copies files of one folder into another; deep ones first.

    So whoever finds what lies at the top, such as a record, finds the rest.
    """
    relative = [file.relative_to(source) for file in files]
    for path in sorted(relative, key=lambda path: (-len(path.parts), path)):
        if not in_bucket(target):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
        copy_file(source / path, target / path)


def copy_file(source: AnyPath, target: AnyPath) -> None:
    """Copies a file; in a bucket it appears whole or not at all."""
    new: Any  # of a bucket, fsspec's
    with source.open("rb") as old, target.open("wb") as new:
        try:
            shutil.copyfileobj(old, new, CHUNK_BYTES)
        except BaseException:
            if in_bucket(target):
                new.closed = True  # closing it would publish what there is so far
                with contextlib.suppress(Exception):
                    new.discard()
            raise


def listed_objects(folder: epath.Path, *, recursive: bool) -> list[str]:
    """Names below a folder of a bucket, in order; none if it is not there.

    One listing of all, where `epath` asks folder by folder.

    Raises:
      UserError: the bucket is not there, or not for us.
    """
    with bucket_errors(folder):
        system, place = fsspec.core.url_to_fs(str(folder))
        try:
            found = system.find(place) if recursive else system.ls(place, detail=False)
        except FileNotFoundError:
            return []
    return sorted(path.removeprefix(f"{place}/") for path in found)


def read_object(path: epath.Path) -> bytes:
    """A file of a bucket by one request, where `epath` makes three."""
    system, place = fsspec.core.url_to_fs(str(path))
    return system.cat_file(place)


def write_object(path: epath.Path, data: bytes) -> None:
    """Writes a small file, which appears whole, by one request."""
    system, place = fsspec.core.url_to_fs(str(path))
    system.pipe_file(place, data)
