"""Image files in an LMDB, the key-value store that LSUN is published in."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rad_jax.data.image_file import Others, check_bytes
from rad_jax.errors import UserError

_OPENING = threading.Lock()


class LmdbImages:
    """The values of an LMDB, under their keys; see ``sources.Images``."""

    def __init__(self, folder: Path, names: Sequence[str]):
        """Wraps keys that are there."""
        self._folder = folder
        self.names = names
        self.others = Others()

    def read(self, i: int) -> bytes:
        """The bytes of an image file."""
        name = self.names[i]
        with _reading(self._folder) as transaction:
            value = transaction.get(os.fsencode(name))
            if value is None:
                raise UserError(f"{self._folder}: holds no {name!r}; has it changed?")
            check_bytes(name, len(value))
            return bytes(value)  # copied: the buffer ends with the transaction

    def take(self, ids: Sequence[int]) -> "LmdbImages":
        """Some of the images."""
        return LmdbImages(self._folder, [self.names[i] for i in ids])

    def sizes(self) -> Iterator[int]:
        """Of the store as a whole: to ask for each image would be to read it."""
        yield os.stat(self._folder / "data.mdb").st_size


def open_lmdb(folder: Path) -> LmdbImages:
    """Lists the keys of an LMDB.

    Args:
        folder: where its ``data.mdb`` is.

    Raises:
        UserError: it is damaged or cut short, or the package ``lmdb`` is missing.
    """
    with _reading(folder) as transaction:
        keys = transaction.cursor().iternext(values=False)
        return LmdbImages(folder, sorted(os.fsdecode(bytes(key)) for key in keys))


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[Any]:
    """A transaction."""
    try:
        import lmdb
    except ImportError as error:
        raise UserError(
            f"{folder}: is an LMDB, which needs a package: pip install 'rad-jax[lmdb]'"
        ) from error
    try:
        with _OPENING:  # once in a process, whatever threads there are
            environment = _environment(folder)
        with environment.begin(buffers=True) as transaction:
            yield transaction
    except lmdb.Error as error:
        raise UserError(
            f"{folder}: is no LMDB, or damaged ({error}); fetch it again"
        ) from error


@functools.cache
def _environment(folder: Path) -> Any:
    import lmdb

    # A lock is a file, and the folder may be read-only; images are read in any order.
    environment = lmdb.open(
        str(folder), readonly=True, lock=False, readahead=False, create=False
    )
    # To read behind the end of the file would kill the process.
    pages = environment.info()["last_pgno"] + 1
    there = os.stat(folder / "data.mdb").st_size
    if (needed := pages * environment.stat()["psize"]) > there:
        environment.close()
        raise UserError(
            f"{folder / 'data.mdb'}: is cut short, {there} bytes of {needed}; "
            "fetch it again"
        )
    return environment
