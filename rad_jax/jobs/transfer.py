"""Shards to and from a bucket: what is worked on lies on this machine."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from rad_jax.errors import UserError, first_line
from rad_jax.files.bucket import (
    AnyPath,
    copy_file,
    in_bucket,
    read_object,
    write_object,
)
from rad_jax.files.file_bytes import FileBytes


class Scratch:
    """A folder that lasts as long as what is worked on; made when it is needed."""

    def __init__(self):
        """Not there yet."""
        self._folder: str | None = None

    def fetch(self, path: AnyPath) -> Path:
        """A file as one of this machine; the bucket's library tries several times.

        Raises:
            UserError: it cannot be read.
        """
        if not in_bucket(path):
            return Path(path)
        local = self.place(path)
        with _reading(path):
            copy_file(path, local)
        return local

    def place(self, path: AnyPath) -> Path:
        """Where a file can be written: itself, or if it is in a bucket, here."""
        if not in_bucket(path):
            return Path(path)
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="rad_jax-")
        return Path(tempfile.mkdtemp(dir=self._folder)) / path.name

    def close(self) -> None:
        """Removes it."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def published(path: AnyPath) -> Iterator[Path]:
    """Gives a place to write a file to, which is in the bucket afterwards.

    Raises:
        UserError: the bucket does not take it.
    """
    scratch = Scratch()
    try:
        local = scratch.place(path)
        yield local
        if in_bucket(path):
            publish(local, path)
    finally:
        scratch.close()


def publish(local: Path, path: AnyPath) -> None:
    """Copies a file into a bucket, where it appears whole.

    Raises:
        UserError: the bucket does not take it.
    """
    with _writing(path):
        copy_file(local, path)


def publish_bytes(data: bytes, path: epath.Path) -> None:
    """The same of a file's bytes."""
    with _writing(path):
        write_object(path, data)


def fetched(path: AnyPath) -> FileBytes:
    """The bytes of a file; the bucket's library tries several times.

    Raises:
        UserError: it cannot be read.
    """
    with _reading(path):
        data = read_object(path) if in_bucket(path) else path.read_bytes()
        return FileBytes(str(path), data)


@contextlib.contextmanager
def _reading(path: AnyPath) -> Iterator[None]:
    with _telling(path, "read", "check its name, and that this machine may read there"):
        yield


@contextlib.contextmanager
def _writing(path: AnyPath) -> Iterator[None]:
    mend = "check that this machine may write there, and run the same command again"
    with _telling(path, "written", mend):
        yield


@contextlib.contextmanager
def _telling(path: AnyPath, what: str, mend: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # dozens of kinds
        reason = first_line(error)[:200]
        raise UserError(f"{path}: cannot be {what} ({reason}); {mend}") from error
