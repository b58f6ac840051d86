import numpy as np
import pytest

from rad_jax.runtime.batching import balanced_batch_size, batch_rows


@pytest.mark.parametrize(
    "count, most, length, rows",
    [
        (5, 16, 5, [[0, 1, 2, 3, 4]]),
        (5, 4, 3, [[0, 1, 2], [3, 4, 4]]),
        (6, 4, 3, [[0, 1, 2], [3, 4, 5]]),
        (4, 1, 1, [[0], [1], [2], [3]]),
        (7, 3, 3, [[0, 1, 2], [3, 4, 5], [6, 6, 6]]),
    ],
)
def test_the_fewest_batches_of_one_length(count, most, length, rows):
    assert balanced_batch_size(count, most) == length
    assert [list(x) for x in batch_rows(count, length)] == rows
    assert len(rows) == np.ceil(count / most)
