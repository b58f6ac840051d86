"""Frechet distance between two sets of features, float64 throughout.

With the features of `inception` it is FID (Heusel et al. 2017). Mean and covariance of
a set are accumulated batch by batch, by the update of Chan, Golub and LeVeque (1979):
nothing is lost of a small variance about a large mean, and the result does not depend,
beyond rounding, on how the set was divided into batches.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rad_jax.errors import UserError
from rad_jax.metrics.inception_blocks import DIMENSION

Features = Float[np.ndarray, "n d"]
Vector = Float[np.ndarray, " d"]
Square = Float[np.ndarray, "d d"]


class Moments(NamedTuple):
    """Of some features, to be merged with those of others.

    Attributes:
      count: how many.
      mean: float64.
      scatter: sum of the outer products of their distances from the mean, float64.
    """

    count: int
    mean: Vector
    scatter: Square


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """What the distance is computed of.

    Attributes:
      mean: float64.
      covariance: float64, with the divisor count - 1.
      count: how many features; None where a file does not say.
      centred: their distances from the mean, float64, of a small set (`of_features`).
    """

    mean: Vector
    covariance: Square
    count: int | None
    centred: Features | None = None

    @functools.cached_property
    def factor(self) -> Float[np.ndarray, "d k"]:
        """F with F F^T the covariance; of eigenvectors those above rounding."""
        if self.centred is not None:
            return self.centred.T / math.sqrt(len(self.centred) - 1)
        values, vectors = np.linalg.eigh(self.covariance)
        least = max(values[-1], 0) * len(values) * np.finfo(np.float64).eps
        kept = values > least
        return vectors[:, kept] * np.sqrt(values[kept])[None]


def moments(features: Features) -> Moments:
    """Of one batch, which may be empty.

    Raises:
      UserError: a feature is not finite.
    """
    features = features.astype(np.float64)
    if not np.isfinite(features).all():
        raise UserError(
            "features of images are not finite; look for NaN in the images and for "
            "damaged weights"
        )
    mean = features.sum(axis=0) / max(len(features), 1)
    centred = features - mean[None]
    return Moments(len(features), mean, centred.T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
    """Of both sets together."""
    count = a.count + b.count
    if count == 0:
        return a
    apart = b.mean - a.mean
    return Moments(
        count,
        a.mean + apart * (b.count / count),
        a.scatter + b.scatter + np.outer(apart, apart) * (a.count * b.count / count),
    )


def statistics(found: Moments) -> Statistics:
    """Mean and covariance.

    Raises:
      UserError: of fewer than 2 features.
    """
    if found.count < 2:
        raise UserError(
            f"a covariance is of 2 images or more, not {found.count}; evaluate more"
        )
    return Statistics(found.mean, found.scatter / (found.count - 1), found.count)


def of_features(features: Features) -> Statistics:
    """Statistics of a set that is at hand as a whole.

    If there are no more features than each has numbers, their distances from the mean
    are a factor of the covariance: nobody need find the eigenvectors of 2048 x 2048.

    Raises:
      UserError: of fewer than 2 features, or a feature is not finite.
    """
    found = moments(features)
    result = statistics(found)
    if len(features) > features.shape[1]:
        return result
    return dataclasses.replace(result, centred=features - found.mean[None])


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the square of the distance; >= 0.

    The trace of the root is the sum of the singular values of F1^T F2, where Ci is
    Fi Fi^T (`Statistics.factor`): no root is taken of what is but rounding, so that it
    holds for covariances without full rank.

    Raises:
      UserError: the two have different dimensions.
    """
    if a.mean.shape != b.mean.shape:
        raise UserError(
            f"features of {len(a.mean)} and of {len(b.mean)} numbers have no Frechet "
            "distance; they are of different networks"
        )
    apart = a.mean - b.mean
    root = np.linalg.svd(a.factor.T @ b.factor, compute_uv=False).sum()
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return max(0.0, float(apart @ apart + traces - 2 * root))


def sample_warning(count: int, dimension: int = DIMENSION) -> str | None:
    """A line on what FID of so few images means; None if there are enough."""
    if count > dimension:
        return None
    return (
        f"FID of {count} images: their covariance has rank {count - 1} at most, of "
        f"{dimension}, and FID is too high by an amount that depends on their number; "
        "compare it with FID of as many images only"
    )
