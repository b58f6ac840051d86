"""``rad-jax reference``: statistics of a set of images, for FID to measure against."""

import itertools
from pathlib import Path

import jax
import numpy as np

from rad_jax.data.splits import in_order, iterate, require_count
from rad_jax.errors import UserError
from rad_jax.files.pixel_ranges import to_float
from rad_jax.metrics import inception
from rad_jax.metrics.frechet import Statistics, merge, moments, statistics
from rad_jax.metrics.inception_blocks import DIMENSION
from rad_jax.metrics.reference import write_reference
from rad_jax.progress import progress
from rad_jax.runtime.batching import balanced_batch_size
from rad_jax.runtime.sharding import on_all_devices

MOST = 64  # images at once


def make_reference(
    output: Path,
    data: str,
    data_dir: Path,
    split: str | None = None,
    *,
    image_size: int | None = None,
    num_images: int | None = None,
    weights: Path | None = None,
) -> Statistics:
    """Writes mean and covariance of the Inception features of a set of images.

    Args:
      output: .npz file to be made, see `metrics.reference`.
      data: name of a prepared data set, or "folder" for image files.
      data_dir: folder of the data sets, or of the images.
      split: part of it; None for "train", of a folder all of its images.
      image_size: pixels per side, to crop larger images as training does; None where
        all have one size.
      num_images: the first ones of the split; None for all.
      weights: folder of the network's file, see `metrics.weights`.

    Returns:
      What was written.

    Raises:
      UserError: the file is there already, or cannot be written; the network's is
        missing; the data set or some of it is, or an image cannot be used.
    """
    if output.exists():
        raise UserError(f"{output}: is there already; name another file")
    if split is None:
        split = "train+validation" if data == "folder" else "train"
    examples = in_order(
        data, data_dir, split, 3, image_size=image_size, most=num_images
    )
    if num_images is not None:
        require_count(data, split, len(examples), num_images)
    params = inception.read_params(weights)
    extract = jax.jit(inception.inception_features)
    length = balanced_batch_size(len(examples), MOST)
    stream = iterate(examples)
    found = moments(np.empty((0, DIMENSION)))
    batches = range(0, len(examples), length)
    for _ in progress(batches, desc=f"features of {data}", unit="batch"):
        images = [x["image"] for x in itertools.islice(stream, length)]
        filled_up = images + images[-1:] * (length - len(images))  # one program
        batch, params = on_all_devices(to_float(_stacked(filled_up)), params)
        features = np.asarray(extract(params, batch))[: len(images)]
        found = merge(found, moments(features))
    result = statistics(found)
    write_reference(output, result)
    return result


def _stacked(images: list[np.ndarray]) -> np.ndarray:
    for image in images:
        if image.shape != images[0].shape:
            raise UserError(
                f"images of {_size(images[0])} and of {_size(image)} pixels; give "
                "image_size to crop them"
            )
    return np.stack(images)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
