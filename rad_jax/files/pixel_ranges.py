"""The two ranges of pixel values, and the way between them.

Files hold bytes, 0 to 255. Everything that computes uses float32 in [-1, 1].
"""

from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, Float32, UInt8

PixelArray = TypeVar("PixelArray", np.ndarray, jax.Array)


def to_float(pixels: UInt8[PixelArray, "*shape"]) -> Float32[PixelArray, "*shape"]:
    """Bytes to float32: 0 becomes -1 and 255 becomes 1.

    Args:
        pixels: NumPy or JAX array of bytes.

    Returns:
        An array of the same kind and shape, in [-1, 1].
    """
    return pixels.astype(np.float32) / 127.5 - 1.0


def to_bytes(pixels: Float[PixelArray, "*shape"]) -> UInt8[PixelArray, "*shape"]:
    """Floats to bytes, rounded to nearest: the exact inverse of ``to_float``.

    Args:
        pixels: NumPy or JAX array, in [-1, 1]; values outside are clipped.

    Returns:
        An array of the same kind and shape.
    """
    # bfloat16 has 8 bits: in it, this sum would move a byte by one.
    levels = (pixels.astype(np.float32) + 1.0) * 127.5
    return levels.round().clip(0.0, 255.0).astype(np.uint8)


def to_truncated_bytes(
    pixels: Float[PixelArray, "*shape"],
) -> UInt8[PixelArray, "*shape"]:
    """Floats to bytes as guided-diffusion writes its samples: the fraction is cut off.

    Half a level darker on average than ``to_bytes``, and no inverse of ``to_float``.
    Only for samples that are held against those of guided-diffusion, byte by byte or
    by FID: pixels that a file has given us must come back as they were.

    Args:
        pixels: NumPy or JAX array, in [-1, 1]; values outside are clipped.

    Returns:
        An array of the same kind and shape.
    """
    levels = (pixels.astype(np.float32) + 1.0) * 127.5
    return levels.clip(0.0, 255.0).astype(np.uint8)
