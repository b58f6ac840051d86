"""A file that was read already, out of an archive, a table or a bucket."""

from pathlib import Path
from typing import NamedTuple


class FileBytes(NamedTuple):
    """Bytes where else a path would stand.

    Attributes:
        name: what errors call it, such as ``shard.tar/x.png``.
        data: the file.
    """

    name: str
    data: bytes

    def __str__(self) -> str:
        """The name, as a path's."""
        return self.name


AnyFile = Path | FileBytes
"""A file of this machine, or its bytes."""
