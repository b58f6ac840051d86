"""Inpainting of picture files, by whatever model."""

import dataclasses
import os
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from rad_jax.errors import UserError
from rad_jax.files.decode import picture_size
from rad_jax.files.mask_file import Mask, read_mask
from rad_jax.files.pairing import Pair, pair_by_stem, stem_of
from rad_jax.files.pictures import (
    Picture,
    compose,
    model_input,
    padded_size,
    read_picture,
    write_picture,
)
from rad_jax.files.remarks import Remarks, some
from rad_jax.inference.file_batches import Batch, Task, region_batches, whole_batches
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills, Request, fill_requests
from rad_jax.inference.regions import Region, described, is_whole, plan
from rad_jax.inference.results import require_finite
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.progress import progress


@dataclasses.dataclass(frozen=True)
class _Settings:
    """Arguments of `inpaint_files`; ``alone``: one picture, not a folder of them."""

    fills: Fills
    channels: int
    stride: int
    native: int
    options: FileOptions
    strategy: StrategyOptions
    alone: bool


class _Loaded(NamedTuple):
    picture: Picture
    hole: Bool[np.ndarray, "h w"]
    regions: list[Region]


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


def region_seed(seed: int, number: int) -> int:
    """The seed of a region of a result that is not filled whole: of ``seed/number``."""
    return zlib.crc32(f"{seed}/{number}".encode())


def inpaint_files(
    fills: Fills,
    image: Path,
    mask: Path,
    output: Path,
    *,
    channels: int,
    stride: int,
    native: int,
    options: FileOptions,
    strategy: StrategyOptions,
    text: Mapping[str, str],
) -> int:
    """Fills the holes of a picture or of a folder of pictures, and writes PNG files.

    Known pixels and alpha are written back unchanged. A result depends on its picture
    and its `sample_seed`, not on the rest of the folder or on the batch size. Pictures
    of a folder that cannot be read are left out and named on stderr.

    Args:
        fills: the model.
        image: a file or a folder, as ``mask`` and ``output``: see `pair_by_stem`.
        mask: white is filled, or black if the options say so.
        output: what exists is replaced.
        channels: the model's channels, 1 or 3.
        stride: pictures are padded to multiples of it.
        native: pixels per side that the model was trained at.
        options: seed, samples for each picture, pictures that are read, and given to
            the model, at once.
        strategy: how pictures larger than the model are filled.
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
    settings = _Settings(fills, channels, stride, native, options, strategy, alone)
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


def _batches(pairs: Sequence[Pair], settings: _Settings, done: _Done) -> list[Batch]:
    """Batches of all pictures whose headers can be read; regions come first."""
    sizes: dict[Pair, tuple[int, int]] = {}
    for pair in pairs:
        try:
            sizes[pair] = picture_size(pair.image)
        except UserError as error:
            _leave_out(pair, error, settings, done)
    whole = {
        pair: size
        for pair, size in sizes.items()
        if is_whole(size, settings.native, settings.stride, settings.strategy)
    }
    large = {pair: size for pair, size in sizes.items() if pair not in whole}
    count = settings.options.num_samples, settings.options.batch_size
    batches = whole_batches(whole, settings.stride, *count)
    return [*region_batches(large, *count), *batches]


def _leave_out(pair: Pair, error: UserError, settings: _Settings, done: _Done) -> None:
    if settings.alone:
        raise error
    done.failed[pair] = error


def _load(batch: Batch, settings: _Settings, done: _Done) -> dict[Pair, _Loaded]:
    """Reads the pictures and masks of a batch, but for those that are left out."""
    loaded: dict[Pair, _Loaded] = {}
    for pair in dict.fromkeys(task.pair for task in batch.tasks):
        try:
            picture = read_picture(pair.image)
            h, w, _ = picture.samples.shape
            changed = padded_size((h, w), settings.stride) != batch.size
            if batch.size and changed:
                raise UserError(f"{pair.image}: changed meanwhile; start again")
            invert, turned = settings.options.invert_mask, picture.orientation > 1
            mask = read_mask(pair.mask, (h, w), invert=invert, turned=turned)
        except UserError as error:
            _leave_out(pair, error, settings, done)
            continue
        regions = plan(mask.hole, settings.native, settings.stride, settings.strategy)
        loaded[pair] = _Loaded(picture, mask.hole, regions)
        done.remarks.add(pair.image, described(regions))
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
    batch: Batch, loaded: Mapping[Pair, _Loaded], settings: _Settings
) -> Iterator[tuple[Task, np.ndarray]]:
    """The samples to write for every task whose picture is loaded."""
    requests: list[Request] = []
    samples: dict[Task, np.ndarray] = {}
    left: dict[Task, int] = {}
    for task in batch.tasks:
        if task.pair not in loaded:
            continue
        picture, _, regions = loaded[task.pair]
        if not regions:
            yield task, picture.samples
            continue
        samples[task], left[task] = picture.samples.copy(), len(regions)
        requests += _requests(task, loaded[task.pair], settings)
    filled = fill_requests(
        settings.fills,
        requests,
        settings.native,
        settings.options.batch_size,
        batch.length,
    )
    for request, generated in filled:
        task, region = request.owner, request.region
        require_finite(generated[region.part], task.pair.image)
        before = dataclasses.replace(
            loaded[task.pair].picture, samples=samples[task][region.pixels]
        )
        opaque = bool(settings.options.opaque_hole)
        samples[task][region.pixels] = compose(
            before, generated, region.part, opaque=opaque
        )
        left[task] -= 1
        if not left[task]:
            yield task, samples.pop(task)


def _requests(task: Task, loaded: _Loaded, settings: _Settings) -> Iterator[Request]:
    """The regions of a result."""
    picture, hole, regions = loaded
    seed = sample_seed(settings.options.seed, stem_of(task.pair.image), task.sample)
    for number, region in enumerate(regions):

        def read(region: Region = region) -> tuple[np.ndarray, np.ndarray]:
            part = dataclasses.replace(picture, samples=picture.samples[region.pixels])
            mask = hole[region.pixels].astype(np.float32)
            return model_input(part, settings.channels), mask

        own = seed if region.strategy == "whole" else region_seed(seed, number)
        yield Request(task, region, read, own)


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
