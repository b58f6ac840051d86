"""Perlin masks: noise, cut at a random level (RAD Sec. 3.2, Fig. 3); soft edges.

Everything runs on the device from a key, with fixed shapes and no callback, so that a
training step draws its own masks inside ``jit``.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from rad_jax.typing import Mask, Masks, PRNGKey, PRNGKeys, Scalar

# One byte of randomness picks a gradient. A table because sine and cosine of each
# lattice point would cost more than all the rest of the noise.
_ANGLES = np.arange(256) * (2 * np.pi / 256)
_COS = np.cos(_ANGLES).astype(np.float32)
_SIN = np.sin(_ANGLES).astype(np.float32)


def perlin_mask(key: PRNGKey, height: int, width: int | None = None) -> Mask:
    """Draws one mask (RAD Sec. 3.2).

    The noise has one octave. Its cell is uniform in [1, longer side] pixels, and its
    lattice is shifted by a random part of a cell. The hole is where the noise is among
    its k lowest values, with k uniform in {0, ..., height * width}: so the hole's share
    of the image is uniform in [0, 1], and k / (height * width) but for ties.

    Args:
      key: the key; the same key gives the same mask.
      height: rows.
      width: columns; ``height`` by default.

    Returns:
      (height, width), float32: 1 in the hole, 0 elsewhere.
    """
    width = height if width is None else width
    cell_key, phase_key, gradient_key, count_key = jax.random.split(key, 4)
    longer = float(max(height, width))
    cell = jax.random.uniform(cell_key, minval=1.0, maxval=longer)
    phase = jax.random.uniform(phase_key, (2,))
    gradients = random_gradients(gradient_key, height, width)
    noise = perlin_noise(gradients, cell, phase)
    count = jax.random.randint(count_key, (), 0, height * width + 1)
    return mark_lowest(noise, count)


@functools.partial(jax.jit, static_argnames=("height", "width"))
def perlin_masks(keys: PRNGKeys, height: int, width: int | None = None) -> Masks:
    """Draws a mask for each key; `perlin_mask`, batched and compiled."""
    return jax.vmap(lambda key: perlin_mask(key, height, width))(keys)


def random_gradients(
    key: PRNGKey, height: int, width: int
) -> Float[Array, "2 columns rows"]:
    """Draws unit vectors for the largest lattice that an image can need.

    A cell has at least one pixel, and a shifted lattice one more line on either side:
    so height + 2 by width + 2 points.

    Returns:
      (2, width + 2, height + 2), float32: x and y components of lattice column and row,
      columns first as `perlin_noise` wants them. One of 256 directions each.
    """
    columns, rows = width + 2, height + 2
    # Four directions from each word: a word for each would take twice as long.
    words = jax.random.bits(key, (-(-columns * rows // 4),), jnp.uint32)
    picks = lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: columns * rows]
    picks = picks.reshape(columns, rows).astype(jnp.int32)
    return jnp.stack([jnp.asarray(_COS)[picks], jnp.asarray(_SIN)[picks]])


def perlin_noise(
    gradients: Float[Array, "2 columns rows"], cell: Scalar, phase: Float[Array, "2"]
) -> Float[Array, "h w"]:
    """Gradient noise with quintic fade (Perlin 1985; fade of Perlin 2002).

    Pixel (y, x) lies at (y, x) / cell + phase on the lattice. From each of the four
    lattice points around it comes the dot product of its gradient and the way from it
    to the pixel; these are blended by 6 s^5 - 15 s^4 + 10 s^3 along either axis.

    Args:
      gradients: lattice vectors, as `random_gradients` draws.
      cell: pixels between two lattice points, >= 1.
      phase: shift of rows and of columns, in cells, in [0, 1).

    Returns:
      (rows - 2, columns - 2), float32, in [-1, 1].
    """
    columns, rows = gradients.shape[1] - 2, gradients.shape[2] - 2
    i, away_y, fade_y = _axis(rows, cell, phase[0])
    j, away_x, fade_x = _axis(columns, cell, phase[1])
    # One axis at a time, and with the lattice line to be looked up in front: whole
    # lines are then copied, which is cheaper than four look-ups for each pixel.
    gx, gy = gradients
    along_x = (1 - fade_x) * away_x * gx[j] + fade_x * (away_x - 1) * gx[j + 1]
    along_y = (1 - fade_x) * gy[j] + fade_x * gy[j + 1]
    along_x, along_y = along_x.T, along_y.T
    near = along_x[i] + away_y * along_y[i]
    far = along_x[i + 1] + (away_y - 1) * along_y[i + 1]
    return (1 - fade_y) * near + fade_y * far


def _axis(
    pixels: int, cell: Scalar, phase: Scalar
) -> tuple[Int[Array, " n"], Float[Array, "n 1"], Float[Array, "n 1"]]:
    """For each pixel: its lattice line, the way from it (in cells) and the fade."""
    at = jnp.arange(pixels) / cell + phase
    line = jnp.floor(at)
    s = (at - line)[:, None]
    return line.astype(jnp.int32), s, s * s * s * (s * (s * 6 - 15) + 10)


def mark_lowest(
    values: Float[Array, "h w"], count: Int[Array, ""]
) -> Float[Array, "h w"]:
    """Marks the ``count`` lowest values, and what ties with the highest of these.

    Floats sort like the integers that their bits spell (the lower 31 bits flipped in
    negative numbers), so 32 halvings of the integers' range find the threshold exactly.
    Each needs one count of all values: cheaper than a sort, and vectors all the way.

    Args:
      values: finite float32; -0.0 counts as lower than 0.0.
      count: in [0, h * w]; 0 marks nothing.

    Returns:
      (h, w), float32: 1 where marked, 0 elsewhere.
    """
    bits = lax.bitcast_convert_type(values, jnp.int32)
    order = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    limits = jnp.iinfo(jnp.int32)
    flat = order.reshape(-1)
    # XLA's CPU backend turns a sum over a short leading axis into vector code, a sum
    # over everything not: three times slower. No threshold reaches the padding.
    padded = jnp.pad(flat, (0, -flat.size % 16), constant_values=limits.max)
    lanes = padded.reshape(16, -1)

    def halve(_, bounds):
        low, high = bounds
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        partial = jnp.sum((lanes <= middle).astype(jnp.int32), axis=0)
        # The barrier keeps XLA from merging the two sums into the slow one.
        enough = jnp.sum(lax.optimization_barrier(partial)) >= count
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    bounds = jnp.int32(limits.min), jnp.int32(limits.max)
    _, threshold = lax.fori_loop(0, 32, halve, bounds)
    return (order <= threshold).astype(jnp.float32)


def soft_mask(mask: Mask, sigma: float) -> Mask:
    """Blurs a mask's borders by a Gaussian; RAD Sec. 3.2 found no gain from it.

    Args:
      mask: (h, w), in [0, 1]; continued by its edge.
      sigma: standard deviation in pixels, fixed under ``jit``, > 0. The kernel is cut
        at three of it.

    Returns:
      (h, w), float32, in [0, 1].
    """
    radius = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    # Shifted sums, not a convolution: a TPU would do that in bfloat16.
    for axis, length in enumerate(mask.shape):
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(2)]
        padded = jnp.pad(mask, pad, mode="edge")
        mask = sum(
            (
                float(weight) * lax.slice_in_dim(padded, at, at + length, axis=axis)
                for at, weight in enumerate(kernel)
            ),
            start=jnp.zeros_like(mask),
        )
    return jnp.clip(mask, 0, 1)
