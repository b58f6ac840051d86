"""A whole split, once and in index order, for evaluation."""

import functools
import os
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from jaxtyping import Int32, UInt8

from rad_jax.data.examples import decode, fit, label, require_channels, to_array
from rad_jax.data.pipeline import READ_OPTIONS, parse_flags
from rad_jax.data.records import Record, source
from rad_jax.errors import UserError

Example = dict[str, Any]
"""``image``, uint8 (h, w, c), and ``label``, an int32."""


def in_order(
    name: str,
    data_dir: str | os.PathLike[str],
    split: str,
    channels: int,
    *,
    image_size: int | None = None,
    most: int | None = None,
) -> grain.MapDataset[Example]:
    """A split's examples, once and in index order, for evaluation.

    Args:
        name: see ``records.source``, as for ``data_dir`` and ``split``.
        data_dir: folder of data sets, or of images.
        split: which part.
        channels: 1 for grey, 3 for RGB.
        image_size: pixels per side, to crop the centre of larger images; None where all
            have the same size anyway.
        most: how many, the first ones; None for all.

    Returns:
        What ``len`` counts and ``iterate`` runs over.

    Raises:
        UserError: see ``records.source``; when an example is made, see ``ToExample``.
    """
    require_channels(channels)
    parse_flags()
    return (
        grain.MapDataset.source(source(name, data_dir, split))
        .slice(slice(most))
        .map(functools.partial(_as_it_is, channels=channels, image_size=image_size))
    )


def iterate(examples: grain.MapDataset[Example]) -> Iterator[Example]:
    """Runs over examples, which threads decode ahead."""
    return iter(examples.to_iter_dataset(READ_OPTIONS))


def require_count(name: str, split: str, found: int, wanted: int) -> None:
    """Raises UserError where a split has fewer images than are wanted."""
    if found < wanted:
        raise UserError(
            f"{name} {split}: has {found} images, not {wanted}; lower num_images or "
            "name another split"
        )


def load_split(
    name: str,
    data_dir: str | os.PathLike[str],
    split: str,
    channels: int,
    *,
    image_size: int | None = None,
    most: int | None = None,
) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
    """All examples of `in_order` in memory: images (0 to 255) and labels."""
    examples = in_order(
        name, data_dir, split, channels, image_size=image_size, most=most
    )
    found = list(iterate(examples))
    return (
        np.stack([example["image"] for example in found]),
        np.stack([example["label"] for example in found]),
    )


def _as_it_is(record: Record, *, channels: int, image_size: int | None) -> Example:
    # Never mirrored or cropped at random: scores are of the images as they are.
    image = decode(record, channels)
    if image_size is not None:
        image = fit(image, image_size, record)
    return {"image": to_array(image), "label": label(record)}
