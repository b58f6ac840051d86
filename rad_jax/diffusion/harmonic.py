"""What surrounds a hole, continued into it without an edge.

Two ways: `spread` in one pass over sizes, and `harmonic`, the smoothest there is.
"""

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool

from rad_jax.models.layers import upsample
from rad_jax.typing import Images

Seen = Bool[Array, "b h w 1"]
"""Where images are known."""

TOLERANCE = 1e-6
"""Of the equations that `harmonic` solves, relative to their right-hand side."""

STEPS = 2000
"""Most of the steps in which it solves them."""


def spread(images: Images, seen: Seen) -> Images:
    """Images whose hole continues what surrounds it; 0 where nothing is known.

    Halved until no hole is left, each pixel the mean of those that are known, and
    brought back from there (push and pull: Gortler et al. 1996). A constant stays one.
    Where an image is known it is kept, bit for bit; what is in the hole is not used.
    """
    known = jnp.where(seen, images, 0)
    return jnp.where(seen, images, _pull(known, seen))


def _pull(images: Images, seen: Seen) -> Images:
    """The images, 0 in their hole, with what is known at half the size in it."""
    _, h, w, _ = images.shape
    if h == w == 1:
        return images
    pads = ((0, 0), *((0, n % 2 if n > 1 else 1) for n in (h, w)), (0, 0))
    sums = _four(jnp.pad(images, pads))
    counts = _four(jnp.pad(seen.astype(images.dtype), pads))
    half = _pull(sums / jnp.maximum(counts, 1), counts > 0)
    return jnp.where(seen, images, _smooth(upsample(half))[:, :h, :w])


def _four(x: Array) -> Array:
    """Sums of 2 x 2 pixels."""
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID")


def _smooth(x: Images) -> Images:
    """A mean of each pixel and its neighbours; weights 1, 2, 1, edges repeated."""
    for axis in (1, 2):
        pads = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        wide = jnp.pad(x, pads, mode="edge")
        n = x.shape[axis]
        before, after = (
            jax.lax.slice_in_dim(wide, i, i + n, axis=axis) for i in (0, 2)
        )
        x = (before + 2 * x + after) / 4
    return x


def harmonic(images: Images, seen: Seen) -> Images:
    """Images whose hole is harmonic: each pixel the mean of its neighbours.

    The smoothest continuation, with no largest or least value inside the hole. At the
    image's edge pixels have fewer neighbours (no flow across it). Solved by conjugate
    gradients from `spread`. Known pixels are kept, bit for bit; what is in the hole is
    not used; where nothing is known it is 0.

    Args:
      images: (b, h, w, c).
      seen: (b, h, w, 1).
    """
    return jax.vmap(_harmonic)(images, seen, spread(images, seen))


def _harmonic(image: Array, seen: Array, start: Array) -> Array:
    def within(x: Array) -> Array:
        return jnp.where(seen, 0, x)

    def equations(x: Array) -> Array:
        return within(_laplacian(within(x)))

    known = jnp.where(seen, image, 0)
    right = -within(_laplacian(known))
    solved, _ = cg(equations, right, x0=within(start), tol=TOLERANCE, maxiter=STEPS)
    return jnp.where(seen, image, solved)


def _laplacian(x: Array) -> Array:
    """Sum of the differences from the up to four neighbours; (h, w, c)."""
    total = jnp.zeros_like(x)
    for axis in (0, 1):
        jumps = jnp.diff(x, axis=axis)
        before, after = ([(0, 0)] * 3 for _ in range(2))
        before[axis], after[axis] = (1, 0), (0, 1)
        total = total + jnp.pad(jumps, before) - jnp.pad(jumps, after)
    return total
