"""The hole of a picture: from its mask or its alpha, grown, with a soft rim."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from rad_jax.files.extend import Margins, extended, extended_mask
from rad_jax.files.hole_shape import dilated, feathered
from rad_jax.files.mask_file import alpha_mask, read_mask
from rad_jax.files.pairing import Pair
from rad_jax.files.pictures import Picture
from rad_jax.inference.file_options import FileOptions


class Hole(NamedTuple):
    """What is filled.

    Attributes:
        inside: True in the hole.
        mask: what the model gets: 0 outside, in (0, 1] inside, 1 but for a soft rim.
        turned: the mask was turned upright, as its EXIF says, or is the picture's own.
        remark: on what was taken for the hole; else "".
    """

    inside: Bool[np.ndarray, "h w"]
    mask: Float32[np.ndarray, "h w"]
    turned: bool
    remark: str


def read_hole(pair: Pair, picture: Picture, options: FileOptions) -> Hole:
    """The hole of a pair's picture.

    Raises:
        UserError: as `read_mask` or, if the mask is its own alpha, `alpha_mask`.
    """
    invert = options.invert_mask
    if pair.mask is None and not options.alpha_hole:  # it is to be extended alone
        none = np.zeros(picture.samples.shape[:2], bool)
        return Hole(none, none.astype(np.float32), True, "")
    if pair.mask is None:
        found = alpha_mask(picture, pair.image, invert=invert)
    else:
        size, turned = picture.samples.shape[:2], picture.orientation > 1
        found = read_mask(pair.mask, size, invert=invert, turned=turned)
    inside = dilated(found.hole, options.dilate)
    mask = feathered(inside, options.feather)
    return Hole(inside, mask, found.turned, found.remark)


def on_larger_canvas(
    picture: Picture, hole: Hole, margins: Margins, name: object
) -> tuple[Picture, Hole]:
    """A picture and its hole with a border that is filled, too; see `extend`.

    Raises:
        UserError: as `extended`.
    """
    if not any(margins):
        return picture, hole
    inside = extended_mask(hole.inside, margins)
    mask = extended_mask(hole.mask, margins)
    larger = extended(picture, margins, name)
    return larger, hole._replace(inside=inside, mask=mask)


def surprises(
    picture: Picture, hole: Hole, channels: int, options: FileOptions
) -> Iterator[str]:
    """What may surprise in the result of a picture, line by line.

    Args:
        picture: the picture.
        hole: its own.
        channels: the model's.
        options: what is done with alpha.
    """
    if picture.frames:
        yield "has several frames; the first one is used"
    # The mask was made for the file as it is, or for the upright picture: who can tell?
    h, w = hole.inside.shape
    either = picture.orientation < 5 or h == w
    if picture.orientation > 1 and either and not hole.turned:
        yield "is turned upright, as its EXIF says; its mask is taken as it is"
    if channels == 1 and picture.colours == 3:
        inside = picture.samples[hole.inside, :3]
        if (inside[:, :1] != inside).any():
            yield "is in colour; this model makes grey, and fills the hole with grey"
    if picture.has_alpha and options.opaque_hole is None:
        alpha = picture.samples[hole.inside, -1]
        if (alpha < np.iinfo(alpha.dtype).max).any():
            yield (
                "is transparent within the hole, which hides the filling; "
                "--opaque_hole shows it, --keep_alpha leaves it so"
            )
