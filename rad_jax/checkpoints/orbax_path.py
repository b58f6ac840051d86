"""Paths that Orbax and TensorStore can write and read back."""

from pathlib import Path

from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, in_bucket
from rad_jax.files.paths import plain

PATTERNS = "*?["
"""Orbax looks for what its processes wrote by a pattern that begins with the path: in a
folder ``a[1]`` it would find nothing, in ``a*`` the files of ``ab``, too."""


def orbax_path(path: AnyPath, *, write: bool = False) -> AnyPath:
    """The path from the root, without ``~`` and ``..``.

    Args:
      path: of a folder. One in a bucket stays as it is: its own way would make a local
        path of it.
      write: it will be written, too.

    Raises:
      UserError: naming what the libraries cannot handle in it.
    """
    if in_bucket(path):
        return path
    found = Path(plain(path)).absolute()
    text = str(found)
    if not text.isascii() and not _is_text(text):
        raise UserError(f"{path}: is no UTF-8, which checkpoints need; rename it")
    # They take a part of that name for the beginning of an address.
    bad = [part for part in found.parts if part in ("gs:", "s3:")]
    bad += [char for char in "\\" + PATTERNS * write if char in text]
    if bad:
        raise UserError(
            f"{path}: checkpoints cannot lie in a path with {bad[0]} in it; rename the "
            "folder or choose another"
        )
    return found


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
