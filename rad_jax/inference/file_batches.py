"""Which picture files are read and filled at once."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rad_jax.files.pairing import Pair
from rad_jax.files.pictures import padded_size
from rad_jax.runtime.batching import balanced_batch_size

MOST_PIXELS = 2**26
"""Of pictures that are filled in regions and held at once."""


class Task(NamedTuple):
    """A result: of which pair, and the number of the sample."""

    pair: Pair
    sample: int


class Batch(NamedTuple):
    """Tasks whose pictures are read at once.

    Attributes:
      tasks: the results.
      size: of the pictures, padded, where they are filled whole; None of others.
      length: images that the model gets then, for which it is compiled; None of others.
    """

    tasks: list[Task]
    size: tuple[int, int] | None
    length: int | None


def whole_batches(
    sizes: Mapping[Pair, tuple[int, int]],
    stride: int,
    num_samples: int,
    batch_size: int,
) -> list[Batch]:
    """Pictures that are filled whole, by padded size; those of one have one length.

    So the model is compiled once a size. The largest batches come first: whether the
    memory suffices shows at once.
    """
    groups: dict[tuple[int, int], list[Task]] = {}
    for pair, size in sizes.items():
        group = groups.setdefault(padded_size(size, stride), [])
        group += _tasks([pair], num_samples)
    batches: list[Batch] = []
    for size, tasks in groups.items():
        length = balanced_batch_size(len(tasks), batch_size)
        for first in range(0, len(tasks), length):
            batches.append(Batch(tasks[first : first + length], size, length))

    def pixels(batch: Batch) -> int:
        return math.prod((batch.length or 0, *(batch.size or ())))

    return sorted(batches, key=pixels, reverse=True)


def region_batches(
    sizes: Mapping[Pair, tuple[int, int]], num_samples: int, batch_size: int
) -> Iterator[Batch]:
    """Pictures that are filled in regions, as many at once as can be held."""
    some: list[Pair] = []
    pixels = 0
    for pair, size in sizes.items():
        full = len(some) == batch_size or pixels + math.prod(size) > MOST_PIXELS
        if some and full:
            yield Batch(_tasks(some, num_samples), None, None)
            some, pixels = [], 0
        some.append(pair)
        pixels += math.prod(size)
    if some:
        yield Batch(_tasks(some, num_samples), None, None)


def _tasks(pairs: Sequence[Pair], num_samples: int) -> list[Task]:
    return [Task(pair, sample) for pair in pairs for sample in range(num_samples)]
