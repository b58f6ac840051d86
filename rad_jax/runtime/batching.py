"""How many things are cut into batches of one length, which is compiled once."""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int


def balanced_batch_size(count: int, most: int) -> int:
    """The length of the fewest batches of at most ``most``: it wastes least.

    The last batch alone may lack some.
    """
    return math.ceil(count / math.ceil(count / most))


def batch_rows(count: int, length: int) -> Iterator[Int[np.ndarray, " length"]]:
    """The rows of each batch; the last of all fills the last batch up."""
    for first in range(0, count, length):
        yield np.minimum(np.arange(first, first + length), count - 1)
