"""Pictures and masks of whatever form a program has them in, and results in that form.

Files, PIL images, NumPy and JAX arrays of bytes, 16-bit grey, or floats that say their
range.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.files.decode import as_grey_or_rgb
from rad_jax.files.mask_file import find_hole, read_mask
from rad_jax.files.metadata import Metadata
from rad_jax.files.paths import local_path
from rad_jax.files.pictures import Picture, of_image, read_picture, to_image
from rad_jax.files.pixel_ranges import to_bytes

ACCEPTED = (
    "a PIL image, a path, or a NumPy or JAX array (h, w) or (h, w, 1 to 4) of uint8, "
    "uint16 (grey) or floats"
)
RANGES = ((0, 1), (-1, 1))

Range = Sequence[int | float]


def is_batch(image: Any) -> bool:
    """Whether these are several pictures: a list, a tuple, or an array (b, h, w, c)."""
    return isinstance(image, list | tuple) or getattr(image, "ndim", 0) == 4


def to_picture(image: Any, value_range: Range | None, name: str) -> Picture:
    """A picture from what a program has.

    Args:
      image: `ACCEPTED`.
      value_range: of floats: (0, 1) or (-1, 1); None takes those with negative values
        for (-1, 1), and refuses others.
      name: what errors call it.

    Raises:
      TypeError: it is something else.
      UserError: it has no pixels, the range does not fit, or as `read_picture`.
    """
    if value_range is not None and tuple(value_range) not in RANGES:
        raise UserError(f"value_range is {value_range}; use (0, 1) or (-1, 1)")
    if isinstance(image, str | os.PathLike):
        return read_picture(local_path(image))
    if isinstance(image, Image.Image):
        return _of_pil(image, name)
    if not _is_array(image):
        kind = type(image).__name__
        raise TypeError(f"{name} is a {kind}; what is accepted is {ACCEPTED}")
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        raise TypeError(f"{name} has the shape {array.shape}; accepted is {ACCEPTED}")
    if not array.size:
        raise UserError(f"{name} has the shape {array.shape}, which has no pixels")
    if np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16":
        return Picture(_of_floats(array.astype(np.float32), value_range, name))
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and array.shape[2] == 1):
        if value_range is not None:
            raise UserError(
                f"{name} is {array.dtype}, whose range is known; leave out value_range"
            )
        return Picture(array)
    raise TypeError(f"{name} is {array.dtype}; accepted is {ACCEPTED}")


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and hasattr(value, "dtype")


def _of_pil(image: Image.Image, name: str) -> Picture:
    plain = as_grey_or_rgb(image)
    if plain.mode not in ("1", "L", "LA", "RGB", "RGBA") and not plain.mode.startswith(
        "I;16"
    ):
        raise TypeError(f"{name} has PIL's mode {image.mode}; convert it to RGB")
    said = Metadata(plain.info.get("icc_profile"), plain.info.get("exif"))
    return of_image(plain, said)


def _of_floats(
    array: Float32[np.ndarray, "h w c"], value_range: Range | None, name: str
) -> Float32[np.ndarray, "h w c"]:
    """Floats in [-1, 1]; NaN may stand in the hole."""
    if array.shape[2] not in (1, 3):
        raise UserError(f"{name} has {array.shape[2]} channels of floats; use 1 or 3")
    low, high = np.nanmin(array), np.nanmax(array)
    if value_range is None and not low < 0:
        raise UserError(
            f"{name} has floats from {low:g} to {high:g}, in [0, 1] or in [-1, 1]? "
            "give value_range=(0, 1) or (-1, 1)"
        )
    least, most = (-1, 1) if value_range is None else value_range
    if low < least or high > most:
        raise UserError(
            f"{name} has floats from {low:g} to {high:g}, outside of ({least}, {most})"
        )
    return array * 2 - 1 if least == 0 else array


def to_mask(mask: Any, size: tuple[int, int], name: str) -> Float32[np.ndarray, "h w"]:
    """A mask from what a program has: 1 in the hole, 0 where the picture is known.

    Args:
      mask: a PIL image or a file, as `mask_file.read_mask` takes them; an array (h, w)
        or (h, w, 1) of booleans, of 0 and 1, of 0 and 255, or of floats from 0 to 1,
        which are soft between.
      size: height and width of its picture.
      name: what errors call it.

    Raises:
      TypeError: it is something else.
      UserError: it has another size, or values that do not say what the hole is.
    """
    if isinstance(mask, str | os.PathLike):
        return read_mask(local_path(mask), size).hole.astype(np.float32)
    if isinstance(mask, Image.Image):
        hole, _ = find_hole(np.asarray(as_grey_or_rgb(mask)), name)
    elif _is_array(mask):
        hole = _of_array(np.asarray(mask), name)
    else:
        raise TypeError(
            f"{name} is a {type(mask).__name__}; what is accepted is a PIL image, a "
            "path, or an array (h, w) or (h, w, 1) of booleans, 0 and 1, or 0 and 255"
        )
    if hole.shape != size:
        raise UserError(f"{name} has the shape {hole.shape}, its image {size}")
    return hole.astype(np.float32)


def _of_array(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        raise TypeError(f"{name} has the shape {array.shape}; use (h, w) or (h, w, 1)")
    if array.dtype == bool:
        return array
    values = array.astype(np.float64)
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1:
        return array
    if np.isin(values, (0, 255)).all():
        return array > 0
    raise UserError(
        f"{name} has values from {low:g} to {high:g}; use booleans, 0 and 1 (between "
        "for a soft mask), or 0 and 255"
    )


def to_output(samples: np.ndarray, picture: Picture, like: Any, output: str) -> Any:
    """A result in the form of its picture, or in another one.

    Args:
      samples: as the picture's, float32 in [-1, 1] where those are.
      picture: where it comes from.
      like: what was given.
      output: "pil", "numpy" or "" for that of `like`.
    """
    as_pil = output == "pil" or (not output and not _is_array(like))
    if not as_pil:
        if samples.dtype != np.float32:
            return samples[..., 0] if getattr(like, "ndim", 3) == 2 else samples
        return samples
    if samples.dtype == np.float32:
        samples = to_bytes(samples)
    image = to_image(samples, picture)
    for name in ("icc_profile", "exif"):
        if value := getattr(picture.metadata, name):
            image.info[name] = value
    return image


def stacked(results: Sequence[Any]) -> Any:
    """Arrays of one shape as one, else a list."""
    arrays = all(isinstance(each, np.ndarray) for each in results)
    if arrays and len({each.shape for each in results}) == 1:
        return np.stack(results)
    return list(results)
