"""Folders in a bucket (gs://), and what is written here to appear there.

Such a path reads like pathlib's. But a bucket has no locks, no renames, and its files
do not grow: what is written line by line is written here and copied.
"""

import contextlib
import importlib.util
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from etils import epath
from fsspec.config import conf
from typing_extensions import TypeIs

from rad_jax.errors import UserError, first_line
from rad_jax.runtime.distributed import say

SCHEME = "gs://"
CHUNK_BYTES = 2**24

AnyPath = Path | epath.Path
"""Of this machine, or of a bucket."""


def folder_at(place: str | AnyPath) -> AnyPath:
    """The path of a folder, on this machine or, if it begins with gs://, in a bucket.

    Raises:
      UserError: it is an address of another kind, or gcsfs is not installed.
    """
    address = str(place)
    if "://" not in address:
        return Path(place)
    if not address.startswith(SCHEME):
        raise UserError(f"{address}: give a folder, or an address that begins gs://")
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"{address}: buckets need gcsfs: pip install 'rad-jax[gcs]'")
    # Other processes write there, too: what was listed once may be out of date.
    conf.setdefault("gs", {})["use_listings_cache"] = False
    return epath.Path(address)


def in_bucket(path: AnyPath) -> TypeIs[epath.Path]:
    """Whether a path is one of a bucket."""
    return isinstance(path, epath.Path)


def absolute(path: AnyPath) -> AnyPath:
    """The path from the root; epath's own makes a local one of a bucket's."""
    return path if in_bucket(path) else path.absolute()


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
            "bucket's name, and that this machine may write there"
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
        with (source / path).open("rb") as old, (target / path).open("wb") as new:
            shutil.copyfileobj(old, new, CHUNK_BYTES)


class LogUploader:
    """A folder on this machine for what a run writes bit by bit; a context manager.

    It is the run's own folder, unless that lies in a bucket: then files are copied
    there by ``publish``, and at the end.

    Attributes:
      folder: where to write.
    """

    def __init__(self, workdir: AnyPath, growing: Iterable[str] = ()):
        """Fetches the files that a run continues to append to.

        Args:
          workdir: of the run.
          growing: names of files that a run continues, if they are there.

        Raises:
          UserError: the bucket cannot be reached, or not be written.
        """
        self._workdir = workdir
        self._published: dict[Path, tuple[int, int]] = {}
        if not in_bucket(workdir):
            self.folder = workdir
            return
        with bucket_errors(workdir):
            probe = workdir / f".{secrets.token_hex(8)}"
            probe.write_bytes(b"")
            probe.unlink()
        self._scratch = tempfile.TemporaryDirectory(prefix="rad_jax-")
        self.folder = Path(self._scratch.name) / workdir.name
        self.folder.mkdir()
        there = [path for name in growing if (path := workdir / name).exists()]
        copy_files(there, workdir, self.folder)

    def __enter__(self) -> "LogUploader":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Publishes the rest."""
        self.publish()
        if in_bucket(self._workdir):
            self._scratch.cleanup()

    def publish(self) -> None:
        """Copies what is new or has grown.

        What does not arrive now is named, and tried again the next time: a run does not
        end for want of its logs.
        """
        if not in_bucket(self._workdir):
            return
        seen = {
            path: ((stat := path.stat()).st_size, stat.st_mtime_ns)
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        new = [path for path, mark in seen.items() if self._published.get(path) != mark]
        try:
            copy_files(new, self.folder, self._workdir)
        except Exception as error:  # of many kinds, see `bucket_errors`
            say(f"{self._workdir}: the logs wait here ({first_line(error)[:200]})")
        else:
            self._published |= {path: seen[path] for path in new}
