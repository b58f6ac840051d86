"""Files and folders that appear whole or not at all."""

import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rad_jax.errors import UserError
from rad_jax.files.bucket import (
    AnyPath,
    bucket_errors,
    copy_files,
    in_bucket,
    remove_folder,
)


@contextlib.contextmanager
def atomic_write(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Gives a path to write to, and renames it to `path` if all went well.

    A file that exists is replaced, missing folders are made. A process that is killed
    meanwhile leaves what it was writing: beside the file or, so that it can be found,
    in the folder ``scratch`` of the same file system.

    Raises:
      UserError: the file cannot be written (disk full, no permission, ...).
    """
    with _reporting(path):
        part = _part(path, scratch)
        try:
            yield part
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


@contextlib.contextmanager
def resumable_writing(path: AnyPath) -> Iterator[None]:
    """Around what is written bit by bit: the same command goes on afterwards.

    Raises:
      UserError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free some space and run "
            "the same command again"
        ) from error


def write_once(path: Path, data: bytes) -> None:
    """Writes a file that does not exist; of several that write at once one wins.

    Raises:
      UserError: it cannot be written.
    """
    with _reporting(path):
        part = _part(path)
        try:
            part.write_bytes(data)
            try:
                path.hardlink_to(part)
            except FileExistsError:
                pass
            except OSError:  # a file system without links: the last one wins
                part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


@contextlib.contextmanager
def atomic_folder(path: AnyPath) -> Iterator[Path]:
    """The same for a folder, which exists while it is written to.

    A folder that exists is replaced: the caller has seen to it that it may be. One of a
    bucket is written on this machine and copied: what lies at its top appears last.
    """
    if in_bucket(path):
        with (
            _reporting(path),
            tempfile.TemporaryDirectory(prefix="rad_jax-") as scratch,
        ):
            yield Path(scratch)
            with bucket_errors(path):
                if path.exists():
                    remove_folder(path)
                files = [file for file in Path(scratch).rglob("*") if file.is_file()]
                copy_files(files, Path(scratch), path)
        return
    with _reporting(path):
        part, old = _part(path), _part(path)
        try:
            part.mkdir()
            yield part
            replaces = path.exists()
            if replaces:
                path.rename(old)
            try:
                part.rename(path)
            except OSError:
                if replaces:
                    old.rename(path)
                raise
            _remove(old)
        finally:
            _remove(part)


@contextlib.contextmanager
def _reporting(path: AnyPath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{path}: cannot be written ({reason}); free some space or choose another "
            "output"
        ) from error


def _remove(folder: Path) -> None:
    """Removes a folder, if there is one; a file that cannot be removed stays.

    Threads of a write that failed may still be putting files into it.
    """
    for _ in range(20):
        if not folder.exists():
            break
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def _part(path: Path, scratch: Path | None = None) -> Path:
    # In the same folder, so that the rename is atomic; a short name, so that it fits
    # wherever the path's own name does.
    path.parent.mkdir(parents=True, exist_ok=True)
    return (scratch or path.parent) / f".{secrets.token_hex(8)}.part"
