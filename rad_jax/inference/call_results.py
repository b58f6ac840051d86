"""What a call of `Inpainter` gives for each of its pictures."""

from typing import Any, NamedTuple

import numpy as np

from rad_jax.files.pictures import Picture
from rad_jax.files.pixel_ranges import to_bytes
from rad_jax.inference.pixels import Range, to_output
from rad_jax.inference.regions import Region


class Job(NamedTuple):
    """A picture to be filled, with its mask, regions and a key for each sample."""

    name: str
    given: Any
    picture: Picture
    mask: np.ndarray
    regions: list[Region]
    keys: list[Any]


def as_bytes(samples: np.ndarray) -> np.ndarray:
    """Samples of any kind with 8 bits."""
    if samples.dtype == np.float32:
        return to_bytes(np.nan_to_num(samples))
    return samples if samples.dtype == np.uint8 else (samples >> 8).astype(np.uint8)


def restored(job: Job, samples: np.ndarray, given: Range | None, output: str) -> Any:
    """A result in the form of its picture."""
    is_array = not output or output == "numpy"
    if samples.dtype == np.float32 and is_array:
        # What was known is as it was given, not there and back through [-1, 1].
        original = np.asarray(job.given)
        scaled = (samples + 1) / 2 if given and tuple(given) == (0, 1) else samples
        hole = (job.mask > 0).reshape(*job.mask.shape, *[1] * (original.ndim - 2))
        return np.where(hole, scaled.reshape(original.shape), original)
    return to_output(samples, job.picture, job.given, output)
