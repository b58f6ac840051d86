"""Fills the holes of an evaluation's images, each once, into PNG files."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from rad_jax.checkpoints.model import AnyModel
from rad_jax.errors import UserError
from rad_jax.evaluate.protocol import Protocol
from rad_jax.files.pictures import read_picture, save_png
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.inpaint import fill_by_seed
from rad_jax.inference.inpaint_files import sample_seed
from rad_jax.inference.results import require_finite
from rad_jax.progress import progress
from rad_jax.runtime import distributed
from rad_jax.runtime.batching import balanced_batch_size, batch_rows

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""``fill(images, holes, seeds, labels)``: float32 (b, h, w, c), (b, h, w), uint32 (b,),
int32 (b,). What an image becomes must depend on its own arguments alone."""


class Task(NamedTuple):
    """One set of masks of an evaluation.

    Attributes:
      protocol: of the evaluation.
      folder: of the evaluation.
      kind: what results call the masks.
      images: all of the evaluation.
      labels: their classes.
      holes: their masks, True in the hole.
    """

    protocol: Protocol
    folder: Path
    kind: str
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]
    holes: Bool[np.ndarray, "n h w"]


def sample_path(folder: Path, kind: str, index: int, sample: int) -> Path:
    """Where a filling lies."""
    return folder / kind / f"{index:05d}_{sample}.png"


def filler(model: AnyModel, protocol: Protocol) -> Fill:
    """The model with the protocol's sampler, in smaller batches where memory ends."""
    fill = fill_by_seed(model, protocol.sampling)
    if model.config.num_classes:
        return fill
    return lambda images, holes, seeds, labels: fill(images, holes, seeds)


def fill_holes(
    fill: Fill, task: Task, indices: Sequence[int], batch_size: int
) -> float | None:
    """Fills what has not been filled yet.

    Args:
      fill: fills holes.
      task: the images and their masks.
      indices: those that this process does.
      batch_size: images at once, at most.

    Returns:
      Seconds per filling, without the first batch, which compiles; None if there was no
      second one.

    Raises:
      UserError: what comes out is not finite, or a file cannot be written.
    """
    # 1. What is still to be filled.
    protocol, folder, kind, images, labels, holes = task
    wanted = [
        (i, sample)
        for i in indices
        for sample in range(protocol.num_samples)
        if not sample_path(folder, kind, i, sample).exists()
    ]
    if protocol.method == "originals":
        for i, sample in wanted:
            save_png(images[i], sample_path(folder, kind, i, sample))
        return None
    # 2. Batches: all have one length, also when resumed, so one program serves all.
    length = balanced_batch_size(len(indices) * protocol.num_samples, batch_size)
    batches = [[wanted[row] for row in r] for r in batch_rows(len(wanted), length)]
    # 3. Fill and write, batch by batch: an interrupted run loses one batch.
    quiet = not (distributed.is_main() and wanted)
    times = []
    for part in progress(batches, desc=f"fill {kind}", unit="batch", quiet=quiet):
        began = time.monotonic()
        rows = [i for i, _ in part]
        seeds = [sample_seed(protocol.seed, f"{kind}{i}", sample) for i, sample in part]
        filled = fill(
            to_float(images[rows]),
            holes[rows].astype(np.float32),
            np.array(seeds, np.uint32),
            labels[rows],
        )
        done = dict(zip(part, filled, strict=True))  # the last may be filled up
        for (i, sample), image in done.items():
            require_finite(image, f"image {i} under {kind}")
            save_png(to_bytes(image), sample_path(folder, kind, i, sample))
        times.append((time.monotonic() - began) / len(done))
    return float(np.mean(times[1:])) if len(times) > 1 else None


def read_fills(task: Task, indices: Sequence[int]) -> UInt8[np.ndarray, "n s h w c"]:
    """The fillings of these images, as they were written.

    Raises:
      UserError: a file cannot be read, or is not of the images' size.
    """
    samples = task.protocol.num_samples
    height, width, channels = task.images.shape[1:]
    out = np.empty((len(indices), samples, height, width, channels), np.uint8)
    for row, i in enumerate(indices):
        for sample in range(samples):
            path = sample_path(task.folder, task.kind, i, sample)
            pixels = read_picture(path).samples
            if pixels.shape != out.shape[2:] or pixels.dtype != np.uint8:
                raise UserError(
                    f"{path}: is not a picture of {width}x{height} with {channels} "
                    "channels of 8 bits; take it out of the folder and evaluate again"
                )
            out[row, sample] = pixels
    return out
