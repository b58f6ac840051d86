"""What there is to say of files, each thing once, with the files that it is true of."""

import collections
from collections.abc import Iterable, Iterator

SHOWN = 5
MOST_REMARKS, MOST_NAMES = 100, 1000
"""Kept, so that those of a million files need no memory."""


class Remarks:
    """Collects remarks while files are worked on."""

    def __init__(self):
        """Of no file."""
        self._names: dict[str, dict[str, None]] = {}
        self._more: collections.Counter[str] = collections.Counter()

    def add(self, path: object, remark: str) -> None:
        """Notes one, of a path or what else has a name; an empty remark is none."""
        if not remark:
            return
        if remark not in self._names and len(self._names) == MOST_REMARKS:
            remark = "of these there is more to say, which is left out"
        names = self._names.setdefault(remark, {})
        if len(names) < MOST_NAMES or str(path) in names:
            names[str(path)] = None
        else:
            self._more[remark] += 1

    def lines(self) -> Iterator[str]:
        """A line for each remark; threads may have found its files in any order."""
        for remark, names in self._names.items():
            yield f"{some(sorted(names), more=self._more[remark])}: {remark}"


def some(names: Iterable[object], most: int = SHOWN, *, more: int = 0) -> str:
    """The first few of many names, and how many others there are, ``more`` of them."""
    shown = [str(name) for name in names]
    count = len(shown) + more
    rest = f" and {count - most} more" if count > most else ""
    return ", ".join(shown[:most]) + rest
