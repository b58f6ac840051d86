"""Files that hold many pictures each, by their names; importable without JAX."""

import re
from typing import NamedTuple

TAR, ZIP, PARQUET, ARRAY_RECORD = "tar", "zip", "parquet", "array_record"

_ENDS = {
    TAR: r"\.tar",
    ZIP: r"\.zip",
    PARQUET: r"\.parquet",
    # Also as TFDS names them: x.array_record-00000-of-00008.
    ARRAY_RECORD: r"\.(array_?record)(-\d+-of-\d+)?",
}
KINDS = tuple(_ENDS)


class Columns(NamedTuple):
    """Where tables and records have what is needed.

    Attributes:
        image: the picture, a file's bytes or, in Parquet, also its path.
        mask: its mask, the same.
        id: its name; where there is none it is the shard's and the row's number.
    """

    image: str = "image"
    mask: str = "mask"
    id: str = "id"


def kind_of(name: str) -> str | None:
    """The kind of a file; None of what is none of `KINDS`."""
    for kind, end in _ENDS.items():
        if re.fullmatch(f".*{end}", name, re.IGNORECASE):
            return kind
    return None
