"""Fills the holes of an evaluation's images, each once, into PNG files."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, UInt8

from rad_jax import distributed
from rad_jax.batches import batch_rows, equal_length
from rad_jax.data.ranges import to_bytes, to_float
from rad_jax.errors import UserError
from rad_jax.evaluate.mask_sets import mask_set, name_of
from rad_jax.evaluate.protocol import Protocol
from rad_jax.images import read_picture, save_png
from rad_jax.inpaint_files import sample_seed
from rad_jax.inpainting import default_sampler, prepare_fill
from rad_jax.loading import Model
from rad_jax.memory import Call, Sparing
from rad_jax.progress import progress

Pixels = UInt8[np.ndarray, "n h w c"]
Fill = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""``fill(images, holes, seeds, labels)``: float32 (b, h, w, c), (b, h, w), uint32 (b,),
int32 (b,). What an image becomes must depend on its own arguments alone."""


def sample_path(folder: Path, masks: str, index: int, sample: int) -> Path:
    """Where a filling lies."""
    return folder / name_of(masks) / f"{index:05d}_{sample}.png"


def filler(model: Model, protocol: Protocol) -> Fill:
    """RAD with the protocol's sampler, in smaller batches where memory ends."""
    sampler = default_sampler(model, protocol.sampler)

    def prepare(images, holes, seeds, labels) -> Call:
        return prepare_fill(
            model,
            jnp.asarray(images),
            jnp.asarray(holes),
            jax.vmap(jax.random.key)(jnp.asarray(seeds)),
            labels=jnp.asarray(labels) if model.config.num_classes else None,
            steps=protocol.steps,
            sampler=sampler,
            grid=protocol.grid,
        )

    return Sparing(prepare)


def fill_holes(
    fill: Fill,
    protocol: Protocol,
    folder: Path,
    masks: str,
    images: Pixels,
    labels: Int32[np.ndarray, " n"],
    indices: Sequence[int],
    batch_size: int,
) -> float | None:
    """Fills what has not been filled of these images under one set of masks.

    Args:
      fill: fills holes.
      protocol: of the evaluation.
      folder: of the evaluation.
      masks: a kind, or a folder.
      images: all images of the evaluation.
      labels: their classes.
      indices: those that this process does.
      batch_size: images at once, at most.

    Returns:
      Seconds per filling, without the first batch, which compiles; None if there was no
      second one.

    Raises:
      UserError: what comes out is not finite, or a file cannot be written.
    """
    wanted = [
        (i, sample)
        for i in indices
        for sample in range(protocol.num_samples)
        if not sample_path(folder, masks, i, sample).exists()
    ]
    if protocol.method == "originals":
        for i, sample in wanted:
            save_png(images[i], sample_path(folder, masks, i, sample))
        return None
    # All batches have one length, also those of a run that goes on: one program.
    length = equal_length(len(indices) * protocol.num_samples, batch_size)
    quiet = not (distributed.is_main() and wanted)
    times = []
    desc = f"fill {name_of(masks)}"
    batches = [[wanted[row] for row in r] for r in batch_rows(len(wanted), length)]
    for part in progress(batches, desc=desc, unit="batch", quiet=quiet):
        began = time.monotonic()
        rows = [i for i, _ in part]
        seeds = [
            sample_seed(protocol.seed, f"{name_of(masks)}{i}", sample)
            for i, sample in part
        ]
        holes = mask_set(protocol, masks, rows)
        seeds = np.array(seeds, np.uint32)
        filled = fill(to_float(images[rows]), holes, seeds, labels[rows])
        done = dict(zip(part, filled, strict=True))  # the last may be filled up
        for (i, sample), image in done.items():
            if not np.isfinite(image).all():
                raise UserError(
                    f"the model gives what is not finite for image {i} under {masks}; "
                    "train it longer, or try --dtype float32"
                )
            save_png(to_bytes(image), sample_path(folder, masks, i, sample))
        times.append((time.monotonic() - began) / len(done))
    return float(np.mean(times[1:])) if len(times) > 1 else None


def read_fills(
    folder: Path, masks: str, indices: Sequence[int], protocol: Protocol, channels: int
) -> UInt8[np.ndarray, "n s h w c"]:
    """The fillings of these images, as they were written.

    Raises:
      UserError: a file cannot be read, or is not of the protocol's size.
    """
    size = protocol.image_size
    out = np.empty((len(indices), protocol.num_samples, size, size, channels), np.uint8)
    for row, i in enumerate(indices):
        for sample in range(protocol.num_samples):
            path = sample_path(folder, masks, i, sample)
            pixels = read_picture(path).samples
            if pixels.shape != out.shape[2:] or pixels.dtype != np.uint8:
                raise UserError(
                    f"{path}: is not a picture of {size}x{size} with {channels} "
                    "channels of 8 bits; delete it and evaluate again"
                )
            out[row, sample] = pixels
    return out
