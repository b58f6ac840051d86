"""One picture file to be filled: what is read of it, and what becomes of it."""

import dataclasses
import functools
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rad_jax.files.pairing import Pair
from rad_jax.files.pictures import Picture, read_picture, require_holds
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills, Request
from rad_jax.inference.hole import Hole, on_larger_canvas, read_hole, surprises
from rad_jax.inference.regions import Region, Sizes, described, plan
from rad_jax.inference.scaling import read_region
from rad_jax.inference.strategy import StrategyOptions


@dataclasses.dataclass(frozen=True)
class FillSettings:
    """How picture files are filled.

    Attributes:
        fills: the model.
        channels: the model's, 1 or 3.
        sizes: of the images that the model fills.
        options: seed, samples for each picture, and what is done with masks and files.
        strategy: how pictures larger than the model are filled.
        text: goes into the files, e.g. the model and its settings.
    """

    fills: Fills
    channels: int
    sizes: Sizes
    options: FileOptions
    strategy: StrategyOptions
    text: Mapping[str, str]


class Decoded(NamedTuple):
    """A picture and its hole, read without the model, maybe on another machine.

    Attributes:
        pair: what was read.
        picture: with its border, if it gets one.
        hole: the same.
        seconds: that it took.
    """

    pair: Pair
    picture: Picture
    hole: Hole
    seconds: float


class Loaded(NamedTuple):
    """A picture, what is to be filled of it, and what there is to say of both."""

    picture: Picture
    hole: Hole
    regions: list[Region]
    remarks: list[tuple[object, str]]


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


def decode_pair(pair: Pair, options: FileOptions) -> Decoded:
    """Reads a picture and its mask.

    Raises:
        UserError: one of them cannot be read, or they do not fit.
    """
    start = time.monotonic()
    picture = read_picture(pair.image)
    require_holds(pair.outputs[0], picture, pair.image)
    hole = read_hole(pair, picture, options)
    picture, hole = on_larger_canvas(picture, hole, options.extend, pair.image)
    return Decoded(pair, picture, hole, time.monotonic() - start)


def plan_picture(decoded: Decoded, settings: FillSettings) -> Loaded:
    """Plans the regions of a picture that was read.

    Raises:
        UserError: the model takes no such mask, or the options do not fit.
    """
    pair, picture, hole, _ = decoded
    settings.fills.require_mask(hole.mask, str(pair.mask or pair.image))
    regions = plan(hole.inside, settings.sizes, settings.strategy)
    remarks: list[tuple[object, str]] = [
        (pair.image, described(regions)),
        (pair.mask or pair.image, hole.remark),
    ]
    remarks += [
        (pair.image, x)
        for x in surprises(picture, hole, settings.channels, settings.options)
    ]
    return Loaded(picture, hole, regions, remarks)


def requests_of(
    pair: Pair, loaded: Loaded, settings: FillSettings
) -> Iterator[Request]:
    """The regions of all results of a picture; their owners are numbers of samples."""
    picture, hole, regions, _ = loaded
    for sample in range(settings.options.num_samples):
        seed = sample_seed(settings.options.seed, pair.name, sample)
        for number, region in enumerate(regions):
            read = functools.partial(
                read_region, picture, hole.mask, settings.channels, region
            )
            own = seed if region.strategy == "whole" else region_seed(seed, number)
            yield Request(sample, region, read, own)
