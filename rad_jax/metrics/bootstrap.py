"""How sure a mean over images is."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rad_jax.errors import UserError

RESAMPLES = 2000
LEVEL = 0.95

BLOCK = 2**22
"""Numbers drawn at a time; 32 MB."""


class Interval(NamedTuple):
    """A mean, and the ends of its confidence interval at `LEVEL`."""

    mean: float
    low: float
    high: float


def mean_interval(values: Float[np.ndarray, " n"], *, seed: int) -> Interval:
    """Mean over images and its interval, by the percentile bootstrap (Efron 1979).

    Means of `RESAMPLES` sets of as many images, drawn with replacement; the interval
    lies between their percentiles. Of one image it is that image's value.

    Args:
      values: a number per image, finite.
      seed: of the draws; the same one gives the same interval.

    Raises:
      UserError: there are no values, or one is not finite.
    """
    count = len(values)
    if count == 0 or not np.isfinite(values).all():
        raise UserError(
            f"a mean is of 1 value or more, all of them finite; these {count} are not"
        )
    values = values.astype(np.float64)
    # NumPy promises this old generator's stream for good, the new one's not.
    generator = np.random.RandomState(seed)
    means, rows = [], max(1, BLOCK // count)
    for start in range(0, RESAMPLES, rows):
        shape = (min(rows, RESAMPLES - start), count)
        means.append(values[generator.randint(0, count, shape)].mean(axis=1))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(float(values.mean()), float(low), float(high))
