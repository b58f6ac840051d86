"""Tells damaged files from those that cannot be read for another reason.

Damaged checkpoints are passed over and, when the run is resumed, removed. So nothing
may be taken for damaged that a person can mend: a disk that fails for a moment, a file
of another user, a path that the library refuses.
"""

import errno
import json
import os
import re

import tensorstore

from rad_jax.errors import UserError, first_line
from rad_jax.files.bucket import AnyPath, in_bucket

MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""Errors of the system that say that a file is not what was written."""

OTHER_REASONS = (
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED"),
    *("RESOURCE_EXHAUSTED", "Invalid file path", "Unable to cast"),
)
"""What TensorStore's errors say that are no damage."""


class Damaged(Exception):
    """Files of a checkpoint are missing, cut short or not what was written."""


def sorted_out(error: Exception, place: AnyPath) -> Exception:
    """What to raise for an error of reading: `Damaged`, or a `UserError`.

    Args:
      error: Orbax's, TensorStore's or the system's.
      place: what was read.
    """
    reason = short_reason(error)
    code = _system_code(error)
    if code in MISSING or isinstance(error, FileNotFoundError):
        return Damaged(reason)
    other = code is not None or isinstance(error, OSError)
    if other or any(text in str(error) for text in OTHER_REASONS):
        return UserError(
            f"{place}: cannot be read ({reason}); nothing is lost: check the disk and "
            "who may read it, then run the same command again"
        )
    return Damaged(reason)


def check_arrays(folder: AnyPath) -> None:
    """Reads a tree of arrays for nothing, one by one.

    Orbax reads them all at once: when one is damaged, the others fill stderr with
    complaints, and its errors look like our own mistakes. After this, whatever Orbax
    raises is one.

    Raises:
      Damaged: a file is missing, cut short or not what was written.
      UserError: it cannot be read for another reason.
    """
    path = f"{folder}/"
    base = path if in_bucket(folder) else {"driver": "file", "path": path}
    store = {"driver": "ocdbt", "base": base}
    try:
        for file in (folder / "_METADATA", *folder.glob("array_metadatas/*")):
            json.loads(file.read_bytes())
        context = tensorstore.Context()
        keys = tensorstore.KvStore.open(store, context=context).result().list().result()
        names = [key[: -len(b".zarray")] for key in keys if key.endswith(b"/.zarray")]
        if not names:
            raise Damaged(f"{folder.name} holds no array")
        for name in names:
            spec = {"driver": "zarr", "kvstore": store | {"path": name.decode()}}
            array = tensorstore.open(spec, context=context, open=True).result()
            array.read().result()
    except (OSError, ValueError, RuntimeError) as error:
        found = sorted_out(error, folder)
        if isinstance(found, Damaged):
            found = Damaged(f"{folder.name}: {found}")
        raise found from error


def short_reason(error: BaseException) -> str:
    """The few words of an error that say why."""
    if (code := _system_code(error)) is not None:
        return os.strerror(code)
    return (getattr(error, "strerror", None) or first_line(error))[:200]


def _system_code(error: BaseException) -> int | None:
    """The system's number of an error, where it has one; TensorStore writes it down."""
    found = re.search(r"\[os_error_code='(\d+)'\]", str(error))
    return int(found[1]) if found else getattr(error, "errno", None)
