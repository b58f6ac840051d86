"""What there is to say of files, each thing once, with the files that it is true of."""

from collections.abc import Iterable, Iterator
from pathlib import Path

SHOWN = 5


class Remarks:
    """Collects remarks while files are worked on."""

    def __init__(self):
        """Of no file."""
        self._paths: dict[str, dict[Path, None]] = {}

    def add(self, path: Path, remark: str) -> None:
        """Notes one; an empty remark is none."""
        if remark:
            self._paths.setdefault(remark, {})[path] = None

    def lines(self) -> Iterator[str]:
        """A line for each remark, in order of the first file."""
        for remark, paths in self._paths.items():
            yield f"{some(paths)}: {remark}"


def some(names: Iterable[object], most: int = SHOWN) -> str:
    """The first few of many names, and how many more there are."""
    shown = [str(name) for name in names]
    rest = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest
