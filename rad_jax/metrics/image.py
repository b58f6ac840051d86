"""Metrics of a filled image and its original, pixel by pixel, a number per image.

The hole is where the mask is above 0, soft pixels included: all that a method may
change. Where a hole is empty there is nothing to measure: the value is that of equal
images, its count is 0, and no mean should take it in.
"""

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rad_jax.errors import UserError
from rad_jax.files.pixel_ranges import to_bytes
from rad_jax.typing import Image, Images, Mask, Masks, Scalar

PerImage = Float[Array, " b"]

MAX_PSNR = 100.0
"""Decibels. Equal images have an infinite PSNR, of which no mean could be made."""

WINDOW = 11
"""Side of SSIM's Gaussian window (sigma 1.5), in pixels."""

HALF_LEVEL = 1 / 255
"""Half a level of an 8-bit picture, in [-1, 1]."""


class InHole(NamedTuple):
    """A mean over the hole of each image.

    Attributes:
      value: the mean; that of equal images where there was nothing to average.
      count: how many pixels were averaged. Leave out images that have 0.
    """

    value: PerImage
    count: Int[Array, " b"]


class Seam(NamedTuple):
    """Jumps across the border of the hole, summed; add them over images to merge.

    A pair is two pixels side by side, or one above the other, of which one lies in the
    hole and the other is known. Its jump is their absolute difference, the mean over
    channels, in units of [-1, 1].

    Attributes:
      filled: sum over the pairs of the filled image.
      original: sum over the same pairs of the original.
      pairs: how many.
    """

    filled: Float[Array, "*b"]
    original: Float[Array, "*b"]
    pairs: Int[Array, "*b"]


def psnr(images: Images, originals: Images) -> PerImage:
    """Peak signal-to-noise ratio over all pixels, decibels, at most `MAX_PSNR`.

    Raises:
      UserError: dm-pix is not installed.
    """
    decibels = _dm_pix().psnr(_unit(images), _unit(originals))
    return jnp.minimum(decibels, MAX_PSNR)


def psnr_in_hole(images: Images, originals: Images, masks: Masks) -> InHole:
    """The same over the pixels of the hole; `MAX_PSNR` of an empty one."""
    hole = masks > 0
    squares = jnp.square(_unit(images) - _unit(originals)).mean(axis=-1)
    error = _mean(squares, hole, 0.0)
    floor = 10 ** (-MAX_PSNR / 10)
    return InHole(-10 * jnp.log10(jnp.maximum(error, floor)), hole.sum(axis=(1, 2)))


def ssim(images: Images, originals: Images) -> PerImage:
    """Structural similarity, at most 1: the mean over windows and channels.

    Windows are Gaussian, `WINDOW` pixels wide, and lie wholly in the image; with colour
    it is the mean of the channels' (as scikit-image has it with `gaussian_weights`,
    `sigma=1.5` and `use_sample_covariance=False`).

    Raises:
      UserError: dm-pix is not installed, or an image is smaller than the window.
    """
    return _ssim_map(images, originals).mean(axis=(1, 2))


def ssim_in_hole(images: Images, originals: Images, masks: Masks) -> InHole:
    """The mean of SSIM over the windows whose centre lies in the hole.

    A window at the hole's border sees known pixels, too. Hole pixels closer than half a
    window to the image's border are no centre of one, and do not count: 1 of a hole
    without any centre.

    Raises:
      UserError: as `ssim`.
    """
    half = WINDOW // 2
    similarity = _ssim_map(images, originals)
    centres = masks[:, half:-half, half:-half] > 0
    return InHole(_mean(similarity, centres, 1.0), centres.sum(axis=(1, 2)))


def known_changed(images: Images, originals: Images, masks: Masks) -> Int[Array, " b"]:
    """Known pixels that differ in the 8-bit pictures, in any channel; must be 0."""
    changed = (to_bytes(images) != to_bytes(originals)).any(axis=-1)
    return (changed & (masks <= 0)).sum(axis=(1, 2))


def seam(images: Images, originals: Images, masks: Masks) -> Seam:
    """The jumps across the border of each image's hole, see `Seam`."""
    zero = jnp.zeros(len(images))
    sums = Seam(zero, zero, zero.astype(int))
    both = zip(*map(_neighbours, (masks > 0, images, originals)), strict=True)
    for hole, *pictures in both:
        border = hole[0] != hole[1]
        jumps = (jnp.abs(x - y).mean(axis=-1) for x, y in pictures)
        added = (*(jnp.where(border, jump, 0) for jump in jumps), border)
        sums = Seam(*(x + y.sum(axis=(1, 2)) for x, y in zip(sums, added, strict=True)))
    return sums


def _neighbours(x: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Each pixel and the one to its right; each pixel and the one below."""
    return (x[:, :, :-1], x[:, :, 1:]), (x[:, :-1], x[:, 1:])


def seam_excess(sums: Seam) -> Float[Array, "*b"]:
    """Mean jump of the filled image minus that of the original.

    In units of [-1, 1]. 0 is as in the original, above it is a visible seam, below it
    a border that is blurred; 0 without a border.
    """
    return (sums.filled - sums.original) / jnp.maximum(sums.pairs, 1)


def seam_ratio(sums: Seam) -> Float[Array, "*b"]:
    """Mean jump of the filled image over that of the original; 1 without a border.

    Either is taken to be half a level of 8 bits at least, below which nothing is seen:
    flat against flat is 1. Of many images, give the ratio of the added sums: a mean of
    ratios would be that of the flattest originals.
    """
    least = jnp.maximum(sums.pairs, 1) * HALF_LEVEL
    return jnp.maximum(sums.filled, least) / jnp.maximum(sums.original, least)


def rms_in_hole(a: Image, b: Image, mask: Mask) -> Scalar:
    """Root mean square difference in the hole, units of [-1, 1]; 0 of an empty one."""
    squares = jnp.square(a - b).mean(axis=-1)
    return jnp.sqrt(_mean(squares[None], mask[None] > 0, 0.0)[0])


def mean_pairwise(samples: Any, distance: Callable[[Any, Any], Scalar]) -> Scalar:
    """Diversity: the mean distance over all pairs of samples of one input.

    Args:
      samples: array (n, ...) of n samples, or a tree of such: images for `rms_in_hole`,
        or LPIPS features, which are then computed once.
      distance: of two samples, arrays (...) or trees of them.

    Raises:
      UserError: there are fewer than 2 samples.
    """
    count = len(jax.tree.leaves(samples)[0])
    if count < 2:
        raise UserError(f"diversity is of 2 samples of an input or more, not {count}")
    pairs = np.array(list(itertools.combinations(range(count), 2)))

    def between(pair: Int[Array, "2"]) -> Scalar:
        a, b = (jax.tree.map(lambda x, i=i: x[i], samples) for i in (pair[0], pair[1]))
        return distance(a, b)

    return jax.lax.map(between, jnp.asarray(pairs)).mean()


def to_rgb(images: Images) -> Float[Array, "b h w 3"]:
    """Colour images as they are, grey ones three times: what networks look at.

    Raises:
      UserError: they have neither 1 channel nor 3.
    """
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise UserError(f"LPIPS and FID are of 1 or 3 channels, not {channels}")
    return jnp.broadcast_to(images, (*images.shape[:-1], 3))


def _unit(images: Images) -> Images:
    """In [0, 1]: PSNR and SSIM take the range as 1."""
    return (images + 1) / 2


def _mean(
    values: Float[Array, "b h w"], where: Bool[Array, "b h w"], empty: float
) -> PerImage:
    count = where.sum(axis=(1, 2))
    total = jnp.where(where, values, 0).sum(axis=(1, 2))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), empty)


def _ssim_map(images: Images, originals: Images) -> Float[Array, "b _ _"]:
    """Of the window around each pixel that has a whole one, the mean of the channels.

    (b, h - 10, w - 10): it begins 5 pixels inside the image.
    """
    height, width = images.shape[1:3]
    if min(height, width) < WINDOW:
        raise UserError(
            f"SSIM is of images of {WINDOW} x {WINDOW} pixels or more; these have "
            f"{width} x {height}"
        )
    similarity = _dm_pix().ssim(
        _unit(images), _unit(originals), filter_size=WINDOW, return_map=True
    )
    return similarity.mean(axis=-1)


def _dm_pix() -> ModuleType:
    try:
        import dm_pix
    except ImportError as error:
        raise UserError(
            "PSNR and SSIM come from dm-pix: pip install 'rad-jax[metrics]'"
        ) from error
    return dm_pix
