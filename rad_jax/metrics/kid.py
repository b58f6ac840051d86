"""KID (Binkowski et al. 2018): a distance of sets of features without FID's bias."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rad_jax.errors import UserError


class Kid(NamedTuple):
    """Over subsets of both sets.

    Attributes:
      mean: estimate of the squared maximum mean discrepancy; it may be below 0.
      deviation: standard deviation between subsets.
    """

    mean: float
    deviation: float


def kid(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    *,
    seed: int,
    subset_size: int = 1000,
    subsets: int = 100,
) -> Kid:
    """Unbiased squared MMD with the kernel (x y / d + 1)^3, the mean over subsets.

    Args:
      a: features of one set.
      b: features of the other one, of the same network.
      seed: of the subsets.
      subset_size: images of either set in a subset, >= 2, drawn without replacement.
      subsets: how many, >= 1; one where each would be the whole of both sets.

    Raises:
      UserError: a set is smaller than a subset, a subset than 2, there is none, or a
        feature is not finite.
    """
    if subset_size < 2 or subsets < 1:
        raise UserError(
            f"KID is of 1 subset or more, of 2 images or more, not {subsets} of "
            f"{subset_size}"
        )
    fewest = min(len(a), len(b))
    if fewest < subset_size:
        raise UserError(
            f"KID takes subsets of {subset_size} images, and a set has {fewest}; give "
            "smaller subsets"
        )
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError(
            "features of images are not finite; look for NaN in the images and for "
            "damaged weights"
        )
    if len(a) == len(b) == subset_size:
        subsets = 1  # each is the whole
    # NumPy promises this old generator's stream for good, the new one's not.
    generator = np.random.RandomState(seed)
    estimates = []
    for _ in range(subsets):
        x = a[generator.choice(len(a), subset_size, replace=False)]
        y = b[generator.choice(len(b), subset_size, replace=False)]
        estimates.append(squared_mmd(x, y))
    return Kid(float(np.mean(estimates)), float(np.std(estimates)))


def squared_mmd(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"]) -> float:
    """The unbiased estimate of two sets of as many features, n >= 2."""
    n = len(x)
    within = sum(k.sum() - np.trace(k) for k in (_kernel(x, x), _kernel(y, y)))
    return float(within / (n * (n - 1)) - 2 * _kernel(x, y).mean())


def _kernel(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    return (x @ y.T / x.shape[1] + 1) ** 3
