"""Inpainting of picture files, by whatever model."""

import dataclasses
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32
from numpy.typing import ArrayLike

from rad_jax.errors import UserError
from rad_jax.files.decode import picture_size
from rad_jax.files.mask_file import Mask, read_mask
from rad_jax.files.pairing import Pair, pair_by_stem, stem_of
from rad_jax.files.pictures import (
    Picture,
    compose,
    model_input,
    pad_to_stride,
    padded_size,
    read_picture,
    write_picture,
)
from rad_jax.files.remarks import Remarks, some
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.results import require_finite
from rad_jax.progress import progress
from rad_jax.runtime.batching import balanced_batch_size

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray], ArrayLike]
"""``fill(images, holes, seeds)``: float32 (b, h, w, c) in [-1, 1], float32 (b, h, w) of
1 (hole) and 0, uint32 (b,) -> (b, h, w, c). What an image becomes must depend on its
own seed alone; what is outside the hole is ignored."""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """Arguments of `inpaint_files`; ``alone``: one picture, not a folder of them."""

    fill: Fill
    channels: int
    stride: int
    options: FileOptions
    alone: bool


class _Task(NamedTuple):
    pair: Pair
    sample: int


class _Batch(NamedTuple):
    """Tasks whose pictures have one size, padded; the model gets ``length`` images."""

    tasks: list[_Task]
    size: tuple[int, int]
    length: int


class _Loaded(NamedTuple):
    picture: Picture
    hole: Bool[np.ndarray, "h w"]


class _Done(NamedTuple):
    """What became of the pairs so far."""

    failed: dict[Pair, UserError]  # always empty if the picture is alone
    whole: dict[Pair, None]  # an ordered set of those without a hole
    written: list[Path]
    remarks: Remarks


def sample_seed(seed: int, stem: str, sample: int) -> int:
    """The seed of one result, in [0, 2**32): the CRC-32 of ``seed/stem/sample``.

    Args:
        seed: the seed of the run.
        stem: the picture's file name without suffix, in Unicode's form NFC.
        sample: the number of the result among those of its picture, from 0.
    """
    return zlib.crc32(os.fsencode(f"{seed}/{stem}/{sample}"))


def inpaint_files(
    fill: Fill,
    image: Path,
    mask: Path,
    output: Path,
    *,
    channels: int,
    stride: int,
    options: FileOptions,
    text: Mapping[str, str],
) -> int:
    """Fills the holes of a picture or of a folder of pictures, and writes PNG files.

    Known pixels and alpha are written back unchanged. A result depends on its picture
    and its `sample_seed`, not on the rest of the folder or on the batch size. Pictures
    of a folder that cannot be read are left out and named on stderr.

    Args:
        fill: the model.
        image: a file or a folder, as ``mask`` and ``output``: see `pair_by_stem`.
        mask: white is filled, or black if the options say so.
        output: what exists is replaced.
        channels: the model's channels, 1 or 3.
        stride: pictures are padded to multiples of it.
        options: seed, samples for each picture, pictures that are read, and given to
            ``fill``, at once.
        text: goes into the PNG files, e.g. the model and its settings.

    Returns:
        The exit code: 0, or 1 if pictures of a folder were left out.

    Raises:
        UserError: names do not pair; the one picture or the one mask cannot be read;
            the model returns no numbers; a result cannot be written.
    """
    remarks = Remarks()
    pairs = pair_by_stem(image, mask, output, options.num_samples, remarks)
    if not mask.is_dir():
        picture_size(mask)  # one broken mask for all is one error, not one a picture
    alone = not image.is_dir()
    settings = _Settings(fill, channels, stride, options, alone)
    done = _Done({}, {}, [], remarks)
    _inpaint_pairs(pairs, settings, text, done)
    return 1 if done.failed else 0


def _inpaint_pairs(
    pairs: Sequence[Pair], settings: _Settings, text: Mapping[str, str], done: _Done
) -> None:
    start = time.monotonic()
    try:
        batches = _batches(pairs, settings, done)
        for batch in progress(batches, desc="inpaint", unit="batch"):
            loaded = _load(batch, settings, done)
            for task, samples in _results(batch, loaded, settings):
                path = task.pair.outputs[task.sample]
                write_picture(path, samples, loaded[task.pair].picture, text)
                done.written.append(path)
    finally:  # a full disk must not hide what is done and what was left out
        _report(done, len(pairs), time.monotonic() - start)


def _batches(pairs: Sequence[Pair], settings: _Settings, done: _Done) -> list[_Batch]:
    """Groups all tasks by padded size; the batches of one size have one length.

    So the model is compiled once a size. The largest batches come first: whether the
    memory suffices shows at once.
    """
    groups: dict[tuple[int, int], list[_Task]] = {}
    for pair in pairs:
        try:
            size = padded_size(picture_size(pair.image), settings.stride)
        except UserError as error:
            _leave_out(pair, error, settings, done)
            continue
        tasks = [_Task(pair, sample) for sample in range(settings.options.num_samples)]
        groups.setdefault(size, []).extend(tasks)
    batches = []
    for size, tasks in groups.items():
        length = balanced_batch_size(len(tasks), settings.options.batch_size)
        for first in range(0, len(tasks), length):
            batches.append(_Batch(tasks[first : first + length], size, length))
    return sorted(batches, key=lambda batch: -batch.length * math.prod(batch.size))


def _leave_out(pair: Pair, error: UserError, settings: _Settings, done: _Done) -> None:
    if settings.alone:
        raise error
    done.failed[pair] = error


def _load(batch: _Batch, settings: _Settings, done: _Done) -> dict[Pair, _Loaded]:
    """Reads the pictures and masks of a batch, but for those that are left out."""
    loaded: dict[Pair, _Loaded] = {}
    for pair in dict.fromkeys(task.pair for task in batch.tasks):
        try:
            picture = read_picture(pair.image)
            h, w, _ = picture.samples.shape
            if padded_size((h, w), settings.stride) != batch.size:
                raise UserError(f"{pair.image}: changed meanwhile; start again")
            invert, turned = settings.options.invert_mask, picture.orientation > 1
            mask = read_mask(pair.mask, (h, w), invert=invert, turned=turned)
        except UserError as error:
            _leave_out(pair, error, settings, done)
            continue
        loaded[pair] = _Loaded(picture, mask.hole)
        if not mask.hole.any():
            done.whole[pair] = None
        done.remarks.add(pair.mask, mask.remark)
        for remark in _remarks(picture, mask, settings):
            done.remarks.add(pair.image, remark)
    return loaded


def _remarks(picture: Picture, mask: Mask, settings: _Settings) -> Iterator[str]:
    """What may surprise in the result of a picture."""
    if picture.frames:
        yield "has several frames; the first one is used"
    # The mask was made for the file as it is, or for the upright picture: who can tell?
    either = picture.orientation < 5 or mask.hole.shape[0] == mask.hole.shape[1]
    if picture.orientation > 1 and either and not mask.turned:
        yield "is turned upright, as its EXIF says; its mask is taken as it is"
    inside = picture.samples[mask.hole]
    if settings.channels == 1 and (inside[:, :1] != inside[:, : picture.colours]).any():
        yield "is in colour; this model makes grey, and fills the hole with grey"
    hidden = picture.has_alpha and (inside[:, -1] < np.iinfo(inside.dtype).max).any()
    if hidden and settings.options.opaque_hole is None:
        yield (
            "is transparent within the hole, which hides the filling; --opaque_hole "
            "shows it, --keep_alpha leaves it so"
        )


def _results(
    batch: _Batch, loaded: Mapping[Pair, _Loaded], settings: _Settings
) -> Iterator[tuple[_Task, np.ndarray]]:
    """The samples to write for every task whose picture is loaded."""
    todo = []
    for task in batch.tasks:
        if task.pair in loaded and loaded[task.pair].hole.any():
            todo.append(task)
        elif task.pair in loaded:
            yield task, loaded[task.pair].picture.samples
    if not todo:
        return
    # Repeat the last image up to the length that the model is compiled for.
    full = todo + [todo[-1]] * (batch.length - len(todo))
    for task, generated in zip(todo, _filled(full, loaded, settings), strict=False):
        picture, hole = loaded[task.pair]
        h, w = hole.shape
        generated = generated[:h, :w]
        require_finite(generated[hole], task.pair.image)
        opaque = bool(settings.options.opaque_hole)
        yield task, compose(picture, generated, hole, opaque=opaque)


def _filled(
    tasks: Sequence[_Task], loaded: Mapping[Pair, _Loaded], settings: _Settings
) -> Float32[np.ndarray, "b h w c"]:
    """What the model makes of the tasks' padded pictures."""
    images, holes, seeds = [], [], []
    for pair, sample in tasks:
        picture, hole = loaded[pair]
        image = model_input(picture, settings.channels)
        images.append(pad_to_stride(image, settings.stride)[0])
        holes.append(pad_to_stride(hole.astype(np.float32), settings.stride)[0])
        seeds.append(sample_seed(settings.options.seed, stem_of(pair.image), sample))
    seeds = np.array(seeds, np.uint32)
    return np.asarray(
        settings.fill(np.stack(images), np.stack(holes), seeds), np.float32
    )


def _report(done: _Done, pairs: int, seconds: float) -> None:
    """Says what was left out, and where the results are and how long one took."""
    for line in done.remarks.lines():
        print(line)
    for pair, error in done.failed.items():
        print(f"left out {pair.image.name}: {error}", file=sys.stderr)
    if len(done.whole) == pairs == 1:
        (pair,) = done.whole
        print(f"{pair.image}: its mask {pair.mask} has no hole; written as it is")
    elif done.whole:
        names = some(pair.image for pair in done.whole)
        count = f"{len(done.whole)} of {pairs} masks have no hole"
        print(f"{count}; written as they are: {names}")
    count = len(done.written)
    if count == 1:
        print(f"{done.written[0]}: {seconds:.3g} s")
    elif count:
        folder = done.written[0].parent
        print(f"{folder}{os.sep}: {count} images, {seconds / count:.3g} s per image")
