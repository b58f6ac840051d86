"""Inpainting of picture files, by whatever model."""

import dataclasses
import functools
import os
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.collect import is_many
from rad_jax.files.decode import picture_size
from rad_jax.files.extend import larger_size
from rad_jax.files.pairing import Pair
from rad_jax.files.pictures import (
    Picture,
    padded_size,
    read_picture,
    require_holds,
    write_picture,
)
from rad_jax.files.remarks import Remarks, some
from rad_jax.inference.file_batches import Batch, Task, region_batches, whole_batches
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.file_pairs import paired
from rad_jax.inference.fill_regions import Fills, Request, fill_requests
from rad_jax.inference.hole import Hole, on_larger_canvas, read_hole, surprises
from rad_jax.inference.regions import Region, Sizes, described, is_whole, plan
from rad_jax.inference.results import require_finite
from rad_jax.inference.scaling import paste_region, read_region
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.progress import progress


@dataclasses.dataclass(frozen=True)
class _Settings:
    """Arguments of `inpaint_files`; ``alone``: one picture, not a folder of them."""

    fills: Fills
    channels: int
    sizes: Sizes
    options: FileOptions
    strategy: StrategyOptions
    alone: bool


class _Loaded(NamedTuple):
    picture: Picture
    hole: Hole
    regions: list[Region]


class _Done(NamedTuple):
    """What became of the pairs so far."""

    failed: dict[Path, UserError]  # always empty if the picture is alone
    whole: dict[Pair, None]  # an ordered set of those without a hole
    written: list[Path]
    remarks: Remarks


def sample_seed(seed: int, name: str, sample: int) -> int:
    """The seed of one result, in [0, 2**32): the CRC-32 of ``seed/name/sample``.

    Args:
        seed: the seed of the run.
        name: the picture's, see `Pair`: its path below the folder of all.
        sample: the number of the result among those of its picture, from 0.
    """
    return zlib.crc32(os.fsencode(f"{seed}/{name}/{sample}"))


def region_seed(seed: int, number: int) -> int:
    """The seed of a region of a result that is not filled whole: of ``seed/number``."""
    return zlib.crc32(f"{seed}/{number}".encode())


def inpaint_files(
    fills: Fills,
    image: Path,
    mask: Path | None,
    output: Path,
    *,
    channels: int,
    sizes: Sizes,
    options: FileOptions,
    strategy: StrategyOptions,
    text: Mapping[str, str],
) -> int:
    """Fills the holes of a picture or of a folder of pictures, and writes files.

    Known pixels and alpha are written back unchanged. A result depends on its picture
    and its `sample_seed`, not on the rest of the folder or on the batch size. Pictures
    of a folder that cannot be read, or have no mask, are left out and named on stderr.

    Args:
        fills: the model.
        image: a file, a folder or a pattern, as ``mask``: see `pair_files`.
        mask: white is filled, or black if the options say so. None for masks beside the
            pictures, or for alpha, as the options say.
        output: see `destination`; what exists is replaced.
        channels: the model's channels, 1 or 3.
        sizes: of the images that the model fills.
        options: seed, samples for each picture, pictures that are read, and given to
            the model, at once.
        strategy: how pictures larger than the model are filled.
        text: goes into the files, e.g. the model and its settings.

    Returns:
        The exit code: 0, or 1 if pictures of a folder were left out.

    Raises:
        UserError: names do not pair; the one picture or the one mask cannot be read, or
            none of a folder; the model returns no numbers; a result cannot be written.
    """
    remarks = Remarks()
    pairs, left = paired(image, mask, output, options, remarks)
    if mask is not None and not is_many(mask):
        picture_size(mask)  # one broken mask for all is one error, not one a picture
    alone = not is_many(image)
    settings = _Settings(fills, channels, sizes, options, strategy, alone)
    done = _Done(left, {}, [], remarks)
    _inpaint_pairs(pairs, settings, text, done)
    if not done.written:
        raise UserError(f"{image}: nothing could be filled, as the lines above say")
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
                picture, quality = loaded[task.pair].picture, settings.options.quality
                write_picture(path, samples, picture, text, quality)
                done.written.append(path)
    finally:  # a full disk must not hide what is done and what was left out
        _report(done, len(pairs), time.monotonic() - start)


def _batches(pairs: Sequence[Pair], settings: _Settings, done: _Done) -> list[Batch]:
    """Batches of all pictures whose headers can be read; regions come first."""
    sizes: dict[Pair, tuple[int, int]] = {}
    for pair in pairs:
        try:
            size = picture_size(pair.image)
            sizes[pair] = larger_size(size, settings.options.extend)
        except UserError as error:
            _leave_out(pair, error, settings, done)
    whole = {
        pair: size
        for pair, size in sizes.items()
        if is_whole(size, settings.sizes, settings.strategy)
    }
    large = {pair: size for pair, size in sizes.items() if pair not in whole}
    count = settings.options.num_samples, settings.options.batch_size
    batches = whole_batches(whole, settings.sizes.stride, *count)
    return [*region_batches(large, *count), *batches]


def _leave_out(pair: Pair, error: UserError, settings: _Settings, done: _Done) -> None:
    if settings.alone:
        raise error
    done.failed[pair.image] = error


def _load(batch: Batch, settings: _Settings, done: _Done) -> dict[Pair, _Loaded]:
    """Reads the pictures and masks of a batch, but for those that are left out."""
    loaded: dict[Pair, _Loaded] = {}
    for pair in dict.fromkeys(task.pair for task in batch.tasks):
        try:
            picture = read_picture(pair.image)
            h, w, _ = picture.samples.shape
            margins = settings.options.extend
            size = padded_size(larger_size((h, w), margins), settings.sizes.stride)
            if batch.size and size != batch.size:
                raise UserError(f"{pair.image}: changed meanwhile; start again")
            require_holds(pair.outputs[0], picture, pair.image)
            hole = read_hole(pair, picture, settings.options)
            picture, hole = on_larger_canvas(picture, hole, margins, pair.image)
            settings.fills.require_mask(hole.mask, str(pair.mask or pair.image))
        except UserError as error:
            _leave_out(pair, error, settings, done)
            continue
        regions = plan(hole.inside, settings.sizes, settings.strategy)
        loaded[pair] = _Loaded(picture, hole, regions)
        done.remarks.add(pair.image, described(regions))
        if not hole.inside.any():
            done.whole[pair] = None
        done.remarks.add(pair.mask or pair.image, hole.remark)
        for remark in surprises(picture, hole, settings.channels, settings.options):
            done.remarks.add(pair.image, remark)
    return loaded


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
        settings.sizes.native,
        settings.options.batch_size,
        batch.length,
    )
    for request, generated in filled:
        task, region = request.owner, request.region
        require_finite(
            generated[region.part], task.pair.image, settings.fills.non_finite
        )
        picture, opaque = loaded[task.pair].picture, settings.options.opaque_hole
        paste_region(picture, samples[task], region, generated, opaque=bool(opaque))
        left[task] -= 1
        if not left[task]:
            yield task, samples.pop(task)


def _requests(task: Task, loaded: _Loaded, settings: _Settings) -> Iterator[Request]:
    """The regions of a result."""
    picture, hole, regions = loaded
    seed = sample_seed(settings.options.seed, task.pair.name, task.sample)
    for number, region in enumerate(regions):
        read = functools.partial(
            read_region, picture, hole.mask, settings.channels, region
        )
        own = seed if region.strategy == "whole" else region_seed(seed, number)
        yield Request(task, region, read, own)


def _report(done: _Done, pairs: int, seconds: float) -> None:
    """Says what was left out, and where the results are and how long one took."""
    for line in done.remarks.lines():
        print(line)
    for path, error in done.failed.items():
        print(f"left out {path.name}: {error}", file=sys.stderr)
    if len(done.whole) == pairs == 1:
        (pair,) = done.whole
        mask = pair.mask or "alpha"
        print(f"{pair.image}: its mask {mask} has no hole; written as it is")
    elif done.whole:
        names = some(pair.image for pair in done.whole)
        count = f"{len(done.whole)} of {pairs} masks have no hole"
        print(f"{count}; written as they are: {names}")
    count = len(done.written)
    if count == 1:
        print(f"{done.written[0]}: {seconds:.3g} s")
    elif count:
        folder = os.path.commonpath([path.parent for path in done.written]) or "."
        print(f"{folder}{os.sep}: {count} images, {seconds / count:.3g} s per image")
