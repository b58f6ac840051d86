"""Paths and addresses as people write them, made plain once, where they enter."""

import os
import posixpath
from pathlib import Path

from rad_jax.errors import UserError


def plain(place: str | os.PathLike[str]) -> str:
    """A path or an address (gs://...) without ``~`` and ``..``.

    A shell expands ``~`` only where a word begins, so not in ``--output=~/x``; and
    TensorStore reads no path with ``..`` in it. A path that has neither stays as it is.

    Raises:
      UserError: it is empty, there is no such user, or ``..`` leads out of the bucket.
    """
    text = os.fspath(place)
    if not text:
        raise UserError("an empty path; is a variable not set?")
    if "://" in text:
        return _plain_address(text)
    if text.startswith("~"):
        text = os.path.expanduser(text)
        if text.startswith("~"):
            raise UserError(f"{text}: no such user; write ./{text} for a file's name")
    # By way of links, as the system does.
    return os.path.realpath(text) if ".." in Path(text).parts else text


def _plain_address(address: str) -> str:
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    parts: list[str] = []
    for part in key.split("/"):
        if part == ".." and not parts:
            raise UserError(f"{address}: leads out of its bucket; check the name")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return f"{scheme}://{posixpath.join(bucket, *parts)}"


def cache_home() -> Path:
    """Our folder of what can be made again, after the XDG base directory specification.

    Raises:
      RuntimeError: there is no home folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # as the specification has it
        base = Path.home() / ".cache"
    return base / "rad_jax"


def local_path(place: str | os.PathLike[str]) -> Path:
    """The `plain` path of a file or folder of this machine.

    Raises:
      UserError: it is an address, or as `plain`.
    """
    text = plain(place)
    if "://" in text:
        raise UserError(f"{text}: must lie on this machine; give a path")
    return Path(text)


def split_argument(place: str) -> tuple[str, str | None]:
    """A config file's path, and the argument behind a colon, or None.

    A file whose own name has a colon in it is taken for itself.
    """
    if os.path.exists(place):
        return place, None
    path, colon, argument = place.partition(":")
    return path, argument if colon else None
