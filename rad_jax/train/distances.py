"""How far apart two fillings of a hole are, for the energy score of `train.distil`.

The energy score is proper under a distance that is a norm of differences in some
features (Gneiting & Raftery 2007, sec. 5.1; Szekely & Rizzo 2013): the truth's own
distribution has the least. A sum of such scores is proper as well, and strictly if one
of them is; so all that are here have a part over the pixels themselves. Parts over
small windows tell more of two images than one number of all pixels (patched scores:
Pacchiardi et al. 2024).
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rad_jax.diffusion.distil_config import DistilConfig
from rad_jax.diffusion.gaussian import safe_sqrt
from rad_jax.metrics import lpips
from rad_jax.typing import Images, LogLevels

Distances = Float[Array, " b"]

Distance = Callable[[Images, Images, LogLevels], Distances]
"""``distance(a, b, hole)`` of each pair of images that are equal outside ``hole``.

``hole`` is 1 inside, (b, h, w, 1). Equal images are 0 apart, with gradient 0.
"""

WINDOW = 4
"""Side of a patch, in pixels of each scale."""

SCALES = 3
"""Each has half the pixels along an axis of the one before."""

WIDTHS = (32, 64, 64)
"""Channels of the random features' layers."""


def make_distance(config: DistilConfig) -> Distance:
    """The distance that a config names.

    Raises:
      UserError: the files of "lpips" are not there, or not the published ones.
    """
    if config.features == "lpips":
        folder = Path(config.weights) if config.weights else None
        return looks(lpips.read_params("alex", folder))
    return {"pixels": pixels, "patches": patches, "random": random_features}[
        config.features
    ]


def pixels(a: Images, b: Images, hole: LogLevels) -> Distances:
    """Root mean square of the differences in the hole."""
    return _over_hole(a - b, hole)


def patches(a: Images, b: Images, hole: LogLevels) -> Distances:
    """The same, beside its mean over windows at several scales."""
    difference, found = a - b, [pixels(a, b, hole)]
    for scale in range(SCALES):
        if scale:
            difference, hole = _pooled(difference, 2), _pooled(hole, 2)
        if min(difference.shape[1:3]) < WINDOW:
            break
        square = jnp.square(difference).mean(-1, keepdims=True)
        # Where a window has few pixels of the hole, it weighs as little.
        inside = _pooled(hole, WINDOW, WINDOW // 2)
        distance = safe_sqrt(_pooled(square, WINDOW, WINDOW // 2) * inside)
        found.append(distance.sum((1, 2, 3)) / _some(inside.sum((1, 2, 3))))
    return sum(found[1:], found[0]) / len(found)


def random_features(a: Images, b: Images, hole: LogLevels) -> Distances:
    """The same, beside that of the layers of a network of fixed random weights."""
    count, found = len(a), [pixels(a, b, hole)]
    both = jnp.concatenate([a, b])
    draws = np.random.default_rng(0)
    for width in WIDTHS:
        shape = (3, 3, both.shape[-1], width)
        kernel = draws.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
        both = jax.lax.conv_general_dilated(
            both,
            jnp.asarray(kernel, jnp.float32),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        both = jax.nn.leaky_relu(both, 0.2)
        # What a feature at the hole's rim sees of it is in the hole, too.
        hole = _pooled(hole, 3, 1, "SAME", jax.lax.max)
        found.append(_over_hole(both[:count] - both[count:], hole))
        if min(both.shape[1:3]) < 4:
            break
        both, hole = _pooled(both, 2), _pooled(hole, 2)
    return sum(found[1:], found[0]) / len(found)


def looks(params: lpips.Params) -> Distance:
    """The root of LPIPS, which is a sum of squares, beside the distance of pixels.

    Args:
      params: of AlexNet, from `lpips.read_params`.
    """

    def distance(a: Images, b: Images, hole: LogLevels) -> Distances:
        # LPIPS is a mean over the image, of which the hole is a part.
        share = _some(hole.mean((1, 2, 3)))
        seen = safe_sqrt(lpips.lpips(params, a, b, net="alex") / share)
        return (pixels(a, b, hole) + seen) / 2

    return distance


def _over_hole(difference: Images, hole: LogLevels) -> Distances:
    square = jnp.square(difference).mean(-1, keepdims=True)
    return safe_sqrt((square * hole).sum((1, 2, 3)) / _some(hole.sum((1, 2, 3))))


def _some(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 in place of 0, where there is no hole to be apart in."""
    return jnp.where(x > 0, x, 1.0)


def _pooled(
    x: Images,
    window: int,
    stride: int | None = None,
    padding: str = "VALID",
    reduce: Callable = jax.lax.add,
) -> Float[Array, "b _ _ c"]:
    """Means of windows, or the largest values; side by side if no stride is given."""
    size, by = (1, window, window, 1), (1, stride or window, stride or window, 1)
    if reduce is jax.lax.add:
        return jax.lax.reduce_window(x, 0.0, reduce, size, by, padding) / window**2
    return jax.lax.reduce_window(x, -jnp.inf, reduce, size, by, padding)
