"""Which of very many names have been seen, in eight bytes each."""

import hashlib
import os
from collections.abc import Iterable

import numpy as np

MOST_RECENT = 2**14


class Seen:
    """A set of names that keeps their hashes of 64 bits alone.

    Of a billion names two are taken for one with a probability of 3%, of a million with
    one of 3e-8.
    """

    def __init__(self, names: Iterable[str] = ()):
        """Of these names."""
        self._sorted = np.empty(0, np.uint64)
        self._recent: set[int] = set()
        for name in names:
            self.add(name)

    def __contains__(self, name: str) -> bool:
        """Whether it has been seen."""
        return self._has(_hash(name))

    def add(self, name: str) -> bool:
        """Notes a name; whether it is new."""
        key = _hash(name)
        if self._has(key):
            return False
        self._recent.add(key)
        if len(self._recent) == MOST_RECENT:
            recent = np.fromiter(self._recent, np.uint64, MOST_RECENT)
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent.clear()
        return True

    def _has(self, key: int) -> bool:
        if key in self._recent:
            return True
        at = int(np.searchsorted(self._sorted, np.uint64(key)))
        return at < len(self._sorted) and int(self._sorted[at]) == key


def _hash(name: str) -> int:
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "little")
