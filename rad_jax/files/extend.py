"""Pictures on a larger canvas, whose new border is to be filled (outpainting)."""

import dataclasses

import numpy as np
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.files.pictures import Picture

Margins = tuple[int, int, int, int]
"""Pixels to the left, above, to the right and below."""


def larger_size(size: tuple[int, int], margins: Margins) -> tuple[int, int]:
    """Height and width of the canvas."""
    left, top, right, bottom = margins
    return size[0] + top + bottom, size[1] + left + right


def extended(picture: Picture, margins: Margins, name: object) -> Picture:
    """A picture with a border that repeats its edge, opaque.

    Args:
        picture: the picture.
        margins: how wide the border is.
        name: what errors call it.

    Raises:
        UserError: the canvas would have more pixels than a picture may have.
    """
    h, w, _ = picture.samples.shape
    size = larger_size((h, w), margins)
    limit = Image.MAX_IMAGE_PIXELS or 2**31
    if size[0] * size[1] > limit:
        raise UserError(
            f"{name}: extended to {size[1]}x{size[0]} it has more than {limit} pixels; "
            "extend it less"
        )
    samples = np.pad(picture.samples, [*_widths(margins), (0, 0)], mode="edge")
    if picture.has_alpha:
        border = extended_mask(np.zeros((h, w), bool), margins)
        samples[border, -1] = np.iinfo(samples.dtype).max
    return dataclasses.replace(picture, samples=samples)


def extended_mask(mask: np.ndarray, margins: Margins) -> np.ndarray:
    """A mask (h, w) of the same canvas: its border is 1, to be filled."""
    return np.pad(mask, _widths(margins), constant_values=1)


def _widths(margins: Margins) -> list[tuple[int, int]]:
    left, top, right, bottom = margins
    return [(top, bottom), (left, right)]
