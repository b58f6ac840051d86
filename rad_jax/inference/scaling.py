"""Regions of a picture to the network's size and back."""

import dataclasses

import numpy as np
from jaxtyping import Float32
from PIL import Image

from rad_jax.files.pictures import (
    Picture,
    Samples,
    compose,
    model_input,
    pad_to_size,
)
from rad_jax.inference.regions import Region

_BOX = Image.Resampling.BOX


def read_region(
    picture: Picture,
    mask: Float32[np.ndarray, "h w"],
    channels: int,
    region: Region,
) -> tuple[Float32[np.ndarray, "y x c"], Float32[np.ndarray, "y x"]]:
    """What a picture and its mask have within a region's box, for a model.

    Args:
      picture: the whole picture.
      mask: of the whole picture.
      channels: the model's, 1 or 3.
      region: where.
    """
    part = dataclasses.replace(picture, samples=picture.samples[region.pixels])
    return model_input(part, channels), mask[region.pixels]


def paste_region(
    picture: Picture,
    samples: Samples,
    region: Region,
    generated: Float32[np.ndarray, "y x c"],
    *,
    opaque: bool = False,
) -> None:
    """Writes what fills a region into the samples of a result, in place.

    Args:
      picture: that the result is of.
      samples: of the result so far.
      region: where.
      generated: of its box.
      opaque: as `compose`.
    """
    before = dataclasses.replace(picture, samples=samples[region.pixels])
    after = compose(before, generated, region.part, opaque=opaque)
    samples[region.pixels] = after


def region_input(
    image: Float32[np.ndarray, "h w c"],
    mask: Float32[np.ndarray, "h w"],
    region: Region,
) -> tuple[Float32[np.ndarray, "H W c"], Float32[np.ndarray, "H W"]]:
    """What the network is given of a region.

    Args:
      image: the picture within the box, in [-1, 1].
      mask: the same of its mask, 1 in the hole, 0 where it is known.
      region: where that is.

    Returns:
      Image and mask of the canvas. Where they are scaled down, what is known has
      nothing of the hole in it, and a pixel that has something of the hole is one of
      it.
    """
    if region.size != mask.shape:
        image, mask = _scaled_down(image, mask, region.size)
    return pad_to_size(image, region.canvas), pad_to_size(mask, region.canvas)


def region_output(
    filled: Float32[np.ndarray, "H W c"], region: Region
) -> Float32[np.ndarray, "h w c"]:
    """What the network has made of a region, at the size of its box."""
    h, w = region.size
    filled = filled[:h, :w]
    if region.part.shape == (h, w):
        return filled
    return _resized(filled, region.part.shape, Image.Resampling.LANCZOS)


def _scaled_down(
    image: Float32[np.ndarray, "h w c"],
    mask: Float32[np.ndarray, "h w"],
    size: tuple[int, int],
) -> tuple[Float32[np.ndarray, "H W c"], Float32[np.ndarray, "H W"]]:
    """Image and mask at a smaller size; the hole's content goes nowhere."""
    seen = (mask < 1).astype(np.float32)
    visible = np.where(seen[..., None] > 0, image, np.float32(0))  # maybe NaN there
    both = np.concatenate([visible, seen[..., None]], axis=-1)
    # Weights that are not negative: a mean of what is seen, whatever the hole's shape.
    both = _resized(both, size, Image.Resampling.BILINEAR)
    small = both[..., :-1] / np.maximum(both[..., -1:], np.float32(1e-6))
    touched = _resized((mask > 0)[..., None].astype(np.float32), size, _BOX)[..., 0] > 0
    if ((mask == 0) | (mask == 1)).all():
        return np.clip(small, -1, 1), touched.astype(np.float32)
    soft = np.clip(_resized(mask[..., None], size, _BOX)[..., 0], 0, 1)
    return np.clip(small, -1, 1), np.where(touched, soft, np.float32(0))


def _resized(
    array: Float32[np.ndarray, "h w c"],
    size: tuple[int, ...],
    resample: Image.Resampling,
) -> Float32[np.ndarray, "H W c"]:
    """An array at another size, channel by channel."""
    h, w = size
    channels = [
        np.asarray(Image.fromarray(array[..., i]).resize((w, h), resample))
        for i in range(array.shape[-1])
    ]
    return np.stack(channels, axis=-1)
