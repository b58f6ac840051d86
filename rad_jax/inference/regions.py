"""Which parts of a picture the network is given, and at which scale.

A network fills well at the size that it was trained at. A larger picture is cut into
regions: windows around the parts of its hole, never enlarged, scaled down where a part
and its context are larger than the network.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from rad_jax.diffusion.tiles import tile_step
from rad_jax.files.pictures import padded_size
from rad_jax.inference.strategy import StrategyOptions

LARGEST_WHOLE = 2.0
"""Pictures of at most so many times the network's pixels are filled whole by "auto"."""

SMALLEST_SCALE = 0.4
"""Parts that a crop would scale down further are tiled by "auto"."""

TILED_SIDE = 3
"""Longer side of a tiled canvas, at most, in sides of the network: 25 tiles."""

MANY_PARTS = 500
"""If there are more, small ones are joined by a grid, not one by one."""


class Sizes(NamedTuple):
    """The sizes of images that a network fills well.

    Attributes:
      native: pixels per side of its windows, at least.
      stride: sides of what it is given are multiples of it.
      largest: pixels per side of a window that is not scaled down.
      whole: pixels of a picture that "auto" fills whole.
      tiled: whether it may fill in tiles, and then its windows are squares of `native`.
    """

    native: int
    stride: int
    largest: int
    whole: float
    tiled: bool


def denoiser_sizes(native: int, stride: int) -> Sizes:
    """Those of a denoiser that was trained at `native` pixels per side."""
    return Sizes(native, stride, native, LARGEST_WHOLE * native**2, True)


Box = tuple[int, int, int, int]
"""Top, left, bottom and right of a part of a picture, in pixels."""


class Region(NamedTuple):
    """A part of a picture that the network fills at once.

    Attributes:
      strategy: "whole", "crop", "resize" or "tile".
      box: what the network sees.
      size: height and width of that, scaled.
      canvas: of the network's image, whose rest is padding; of "tile" larger than the
        network.
      part: of the box's pixels, True for those of the hole that are filled here.
    """

    strategy: str
    box: Box
    size: tuple[int, int]
    canvas: tuple[int, int]
    part: Bool[np.ndarray, "h w"]

    @property
    def scale(self) -> float:
        """Pixels of the network's image to one of the picture, on a side; <= 1."""
        top, left, bottom, right = self.box
        return max(self.size) / max(bottom - top, right - left)

    @property
    def pixels(self) -> tuple[slice, slice]:
        """The box, to index a picture with."""
        top, left, bottom, right = self.box
        return slice(top, bottom), slice(left, right)


def plan(
    hole: Bool[np.ndarray, "h w"], sizes: Sizes, options: StrategyOptions
) -> list[Region]:
    """Divides the work on a picture.

    "whole" gives the network all of it as it is, "resize" all of it at the network's
    size. "crop" gives it a window around each part of the hole, "tile" such a window
    at up to `TILED_SIDE` times the network's size, in overlapping tiles. "auto" is
    "whole" for pictures of up to `sizes.whole` pixels; else each part is "crop" or,
    below `SMALLEST_SCALE` and where the network may be tiled, "tile". What fits into
    the network is "whole" in each of them.

    Args:
      hole: True where the picture is to be filled, of any part of it.
      sizes: the network's.
      options: the strategy and the context.

    Returns:
      Regions whose parts make up the hole, each pixel once; none without a hole.
    """
    h, w = hole.shape
    if not hole.any():
        return []
    everything = (0, 0, h, w)
    native, stride, *_ = sizes
    if is_whole((h, w), sizes, options):
        canvas = padded_size((h, w), stride)
        return [Region("whole", everything, (h, w), canvas, hole)]
    if options.strategy == "resize":
        return [_scaled("resize", everything, native, sizes, hole)]
    regions = []
    for box, part in _parts(hole, native / (1 + 2 * options.context)):
        window = _window(box, hole.shape, native, options.context)
        top, left, bottom, right = window
        mine = np.zeros((bottom - top, right - left), bool)
        mine[box[0] - top : box[2] - top, box[1] - left : box[3] - left] = part
        longer = max(mine.shape)
        small_scale = sizes.tiled and native / longer < SMALLEST_SCALE
        if options.strategy == "tile" or (options.strategy == "auto" and small_scale):
            side = min(longer, TILED_SIDE * native)
            regions.append(_tiled(window, side, sizes, mine))
        else:
            side = native if longer <= native else sizes.largest
            regions.append(_scaled("crop", window, side, sizes, mine))
    return regions


def is_whole(size: tuple[int, int], sizes: Sizes, options: StrategyOptions) -> bool:
    """Whether `plan` gives the network a picture of this size as it is."""
    fits = max(padded_size(size, sizes.stride)) <= sizes.native
    if options.strategy == "whole" or fits:
        return True
    h, w = size
    return options.strategy == "auto" and h * w <= sizes.whole


def described(regions: Sequence[Region]) -> str:
    """Strategies and scales in a few words; "" of a picture that is filled whole."""
    found: dict[str, list[float]] = {}
    for region in regions:
        if region.strategy != "whole":
            found.setdefault(region.strategy, []).append(region.scale)

    def scales(values: list[float]) -> str:
        low, high = f"{min(values):.2g}", f"{max(values):.2g}"
        return low if low == high else f"{low} to {high}"

    parts = [
        f"{len(values)} x {name} at scale {scales(values)}"
        for name, values in found.items()
    ]
    return f"filled by {', '.join(parts)}" if parts else ""


def _scaled(
    strategy: str,
    box: Box,
    side: int,
    sizes: Sizes,
    part: Bool[np.ndarray, "h w"],
) -> Region:
    """A region whose longer side becomes `side`, unless it is shorter."""
    top, left, bottom, right = box
    h, w = bottom - top, right - left
    scale = min(1.0, side / max(h, w))
    size = (max(1, round(h * scale)), max(1, round(w * scale)))
    # Of one size, where that is the network's: few programs are compiled.
    canvas = (side, side) if sizes.tiled else padded_size(size, sizes.stride)
    return Region(strategy, box, size, canvas, part)


def _tiled(box: Box, side: int, sizes: Sizes, part: Bool[np.ndarray, "h w"]) -> Region:
    """The same with a canvas of whole steps from tile to tile: few sizes in all."""
    region = _scaled("tile", box, side, sizes, part)
    native, step = sizes.native, tile_step(sizes.native, sizes.stride)
    h, w = (max(native, native + -(-(x - native) // step) * step) for x in region.size)
    return region._replace(canvas=(h, w))


def _window(
    box: Box, size: tuple[int, ...], native: int, context: float
) -> tuple[int, int, int, int]:
    """A square around a box, with its context, or what of it the picture has."""
    top, left, bottom, right = box
    side = max(bottom - top, right - left)
    side = max(native, round(side * (1 + 2 * context)))

    def span(start: int, end: int, length: int) -> tuple[int, int]:
        wanted = min(side, length)
        first = (start + end - wanted) // 2
        first = min(max(first, 0), length - wanted)
        return first, first + wanted

    (y0, y1), (x0, x1) = span(top, bottom, size[0]), span(left, right, size[1])
    return y0, x0, y1, x1


def _parts(
    hole: Bool[np.ndarray, "h w"], joined_side: float
) -> Iterator[tuple[Box, Bool[np.ndarray, "h w"]]]:
    """The connected parts of a hole, near ones joined where that costs no scale.

    Args:
      hole: of the picture.
      joined_side: parts are joined if together they are no larger than this.
    """
    everywhere = np.ones((3, 3), bool)  # corners touch, too
    labelled: Any = ndimage.label(hole, everywhere)
    labels = labelled[0]
    found = ndimage.find_objects(labels)
    boxes: list[Box] = [(y.start, x.start, y.stop, x.stop) for y, x in found]
    groups = [([i + 1], box) for i, box in enumerate(boxes)]
    if len(groups) > MANY_PARTS:
        groups = _binned(groups, joined_side)
    if len(groups) <= MANY_PARTS:  # takes the square of their number
        groups = _joined(groups, joined_side)
    group_of = np.zeros(len(boxes) + 1, np.int32)
    for number, (members, _) in enumerate(groups, start=1):
        group_of[members] = number
    for number, (_, box) in enumerate(groups, start=1):
        top, left, bottom, right = box
        yield box, group_of[labels[top:bottom, left:right]] == number


Group = tuple[list[int], Box]
"""Labels of parts, and the box around them."""


def _binned(groups: Sequence[Group], most: float) -> list[Group]:
    """Groups of small parts by the cell of a grid that their corner lies in."""
    most = int(most)
    largest, cell = most // 4, max(1, most - most // 4)
    cells: dict[tuple[int, int, int], Group] = {}
    for numbers, box in groups:
        small = _side(box) <= largest
        # What is larger is alone; no cell is as low as its label.
        key = (box[0] // cell, box[1] // cell, 0) if small else (0, 0, numbers[0])
        others, other = cells.get(key, ([], box))
        cells[key] = ([*others, *numbers], _around(box, other))
    return list(cells.values())


def _joined(groups: Sequence[Group], most: float) -> list[Group]:
    """Groups of parts, joined one after the other where they fit together."""
    done: list[Group] = []
    for numbers, box in groups:
        for i, (others, other) in enumerate(done):
            both = _around(box, other)
            larger = max(_side(box), _side(other))
            if _side(both) <= max(most, larger):
                done[i] = ([*others, *numbers], both)
                break
        else:
            done.append((list(numbers), box))
    return done


def _around(a: Box, b: Box) -> Box:
    """The box around two."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _side(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])
