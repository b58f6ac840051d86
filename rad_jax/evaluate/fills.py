"""Fills the holes of an evaluation's images, each once, into PNG files."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from rad_jax.baselines.chain import Filled
from rad_jax.baselines.choice import Baseline
from rad_jax.checkpoints.model import AnyModel, LamaModel
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.evaluate.protocol import Protocol
from rad_jax.evaluate.settings import ORIGINALS
from rad_jax.files.pictures import read_picture, save_png
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.comparison import non_finite_help, prepare_baseline
from rad_jax.inference.inpaint import by_seed, fill_by_seed
from rad_jax.inference.picture_fill import sample_seed
from rad_jax.inference.results import require_finite
from rad_jax.progress import progress
from rad_jax.runtime import distributed
from rad_jax.runtime.batching import balanced_batch_size, batch_rows

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Filled]
"""``fill(images, holes, seeds, labels)``: float32 (b, h, w, c), (b, h, w), uint32 (b,),
int32 (b,). What an image becomes must depend on its own arguments alone."""


class Cost(NamedTuple):
    """What a filling takes, on average over those that were made now.

    Attributes:
      seconds: without the first batch, which compiles; None if there was no second one.
      forward: evaluations of the network; None if nothing was made.
      backward: of its gradient; the same.
    """

    seconds: float | None
    forward: float | None
    backward: float | None


NOTHING = Cost(None, None, None)


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


def filler(model: AnyModel, sampling: SamplingOptions | Baseline) -> Fill:
    """The model with its method, in smaller batches where memory ends."""
    if isinstance(sampling, Baseline):
        fill = by_seed(prepare_baseline(model, sampling))
    else:
        images_alone = fill_by_seed(model, sampling)
        evaluations = 1
        if not isinstance(model, LamaModel):
            evaluations = sampling.for_model(model.few_steps).evaluations

        def fill(*batch: np.ndarray) -> Filled:
            images = images_alone(*batch)
            forward = np.full(len(images), evaluations)
            return Filled(images, forward, np.zeros_like(forward))

    if model.config.num_classes:
        return fill
    return lambda images, holes, seeds, labels: fill(images, holes, seeds)


def fill_holes(fill: Fill, task: Task, indices: Sequence[int], batch_size: int) -> Cost:
    """Fills what has not been filled yet.

    Args:
      fill: fills holes.
      task: the images and their masks.
      indices: those that this process does.
      batch_size: images at once, at most.

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
    if protocol.method == ORIGINALS:
        for i, sample in wanted:
            save_png(images[i], sample_path(folder, kind, i, sample))
        return NOTHING
    # 2. Batches: all have one length, also when resumed, so one program serves all.
    helps = non_finite_help(protocol.method)
    length = balanced_batch_size(len(indices) * protocol.num_samples, batch_size)
    batches = [[wanted[row] for row in r] for r in batch_rows(len(wanted), length)]
    # 3. Fill and write, batch by batch: an interrupted run loses one batch.
    quiet = not (distributed.is_main() and wanted)
    times, counts = [], {}
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
        done = dict(zip(part, filled.images, strict=True))  # the last may be filled up
        for (i, sample), image in done.items():
            require_finite(image, f"image {i} under {kind}", helps)
            save_png(to_bytes(image), sample_path(folder, kind, i, sample))
        times.append((time.monotonic() - began) / len(done))
        counts |= dict(zip(part, zip(*filled[1:], strict=True), strict=True))
    if not counts:
        return NOTHING
    seconds = float(np.mean(times[1:])) if len(times) > 1 else None
    forward, backward = np.mean(list(counts.values()), axis=0)
    return Cost(seconds, float(forward), float(backward))


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
