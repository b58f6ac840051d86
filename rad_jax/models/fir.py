"""Changes of resolution by a small filter (StyleGAN 2; NCSN++), NHWC.

The filter is outer([1, 3, 3, 1]) / 64 for each channel, with zeros around the image: a
few weighted sums of slices along each axis, which XLA fuses, while it has no fast
convolution of single channels. The sums are float32.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rad_jax.models.convolution import Activation

AXES = (1, 2)


def fir_upsample(x: Activation) -> Float[Array, "b 2*h 2*w c"]:
    """Twice the size: zeros between the pixels, then four times the filter."""
    y = x.astype(jnp.float32)
    for axis in AXES:
        y = _up(y, axis)
    return y.astype(x.dtype)


def fir_upsample_wide(x: Activation) -> Float[Array, "b 2*h+2 2*w+2 c"]:
    """`fir_upsample` with the pixel that it has beyond each edge.

    A 3x3 convolution of it without zeros around is the "convolution up": a transposed
    convolution followed by the filter. Both are linear, so they may change places.
    """
    around = (1, 1)
    wide = fir_upsample(jnp.pad(x, ((0, 0), around, around, (0, 0))))
    return wide[:, 1:-1, 1:-1]


def fir_downsample(x: Activation) -> Float[Array, "b h//2 w//2 c"]:
    """Half the size: each second pixel of the filtered image."""
    return _filter(x, around=1, stride=2)


def fir_smooth(x: Activation) -> Float[Array, "b h+1 w+1 c"]:
    """The filtered image with a pixel more: what a "convolution down" convolves.

    That is 3x3 with stride 2 and without zeros around.
    """
    return _filter(x, around=2, stride=1)


def _up(x: Activation, axis: int) -> Float[Array, "b _ _ c"]:
    """Between the zeros only two of the four weights meet pixels of x."""
    before = _shifted(x, axis, -1)
    after = _shifted(x, axis, 1)
    pairs = jnp.stack([(before + 3 * x) / 4, (3 * x + after) / 4], axis=axis + 1)
    return pairs.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


def _shifted(x: Activation, axis: int, by: int) -> Activation:
    """The neighbour of each pixel, zero beyond the edge."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, 1)
    start = 1 + by
    return jax.lax.slice_in_dim(jnp.pad(x, pads), start, start + x.shape[axis], 1, axis)


def _filter(x: Activation, around: int, stride: int) -> Float[Array, "b _ _ c"]:
    y = x.astype(jnp.float32)
    for axis in AXES:
        pads = [(0, 0)] * x.ndim
        pads[axis] = (around, around)
        padded = jnp.pad(y, pads)
        length = (padded.shape[axis] - 4) // stride * stride + 1
        a, b, c, d = (
            jax.lax.slice_in_dim(padded, i, i + length, stride, axis) for i in range(4)
        )
        y = ((a + d) + 3 * (b + c)) / 8
    return y.astype(x.dtype)
