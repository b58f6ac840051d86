"""Fills the regions of many pictures in batches of one size each."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from rad_jax.inference.regions import Region
from rad_jax.inference.results import NON_FINITE
from rad_jax.inference.scaling import region_input, region_output
from rad_jax.runtime.batching import balanced_batch_size

Fill = Callable[..., Any]
"""``fill(images, holes, seeds)``: float32 (b, h, w, c) in [-1, 1], float32 (b, h, w) of
1 (hole) and 0, uint32 (b,) or keys (b,) -> (b, h, w, c). What an image becomes must
depend on its own seed alone; what is outside the hole is ignored."""


def any_mask(mask: np.ndarray, name: str) -> None:
    """Takes every mask."""


class Fills(NamedTuple):
    """How a model fills holes.

    Attributes:
      whole: of an image of its size.
      tiled: of a larger one in tiles.
      require_mask: refuses a mask (h, w), of this name, that it cannot take.
      non_finite: what to do where results are no numbers.
    """

    whole: Fill
    tiled: Fill
    require_mask: Callable[[np.ndarray, str], None] = any_mask
    non_finite: str = NON_FINITE


class Request(NamedTuple):
    """A region to be filled.

    Attributes:
      owner: what it is a part of; the caller's.
      region: where it is.
      read: gives the image (h, w, c) and the mask (h, w) within its box, when it is
        its turn.
      seed: a number or a key.
    """

    owner: Any
    region: Region
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    seed: Any


class Group(NamedTuple):
    """Regions that are filled at once.

    Attributes:
      tiled: whether they are tiled.
      requests: the regions, of one canvas.
      length: of the batch, which is filled up to it.
    """

    tiled: bool
    requests: list[Request]
    length: int


Key = tuple[bool, tuple[int, int]]
"""What regions of one batch share: whether they are tiled, and their canvas."""

MOST_WAITING = 4
"""Batches' worth of regions that wait for others of their size."""


def _key(request: Request) -> Key:
    return request.region.strategy == "tile", request.region.canvas


class Groups:
    """Collects regions of one canvas each until they are a batch."""

    def __init__(self, native: int, batch_size: int, length: int):
        """None yet.

        Args:
          native: pixels per side of the model.
          batch_size: images at once at most; of tiles as many.
          length: of all batches of the model's own size. Others that are not full have
            a length that was used before, or the next power of two: few are compiled,
            and little is wasted where pictures have many sizes.
        """
        self._native, self._batch_size, self._length = native, batch_size, length
        self._own: Key = False, (native, native)
        self._waiting: dict[Key, list[Request]] = {}
        self._used: dict[Key, set[int]] = {}
        self._count = 0

    def add(self, request: Request) -> Iterator[Group]:
        """Takes a region, and gives the batches that have to be filled then."""
        key = _key(request)
        self._waiting.setdefault(key, []).append(request)
        self._count += 1
        if len(self._waiting[key]) == self._most(key):
            yield self._take(key)
        # Of many sizes none may become a batch for long.
        if self._count >= MOST_WAITING * self._batch_size:
            yield self._take(max(self._waiting, key=lambda x: len(self._waiting[x])))

    def rest(self) -> list[Group]:
        """The batches that are not full; the largest one first.

        It needs the most memory: whether that suffices shows early.
        """
        groups = {key: self._take(key) for key in list(self._waiting)}

        def pixels(key: Key) -> int:
            return groups[key].length * math.prod(key[1])

        return [groups[key] for key in sorted(groups, key=pixels, reverse=True)]

    def _most(self, key: Key) -> int:
        tiled, canvas = key
        if tiled:
            return most_tiled(canvas, self._native, self._batch_size)
        return self._length if key == self._own else self._batch_size

    def _take(self, key: Key) -> Group:
        requests = self._waiting.pop(key)
        self._count -= len(requests)
        most = self._most(key)
        used = self._used.setdefault(key, set())
        length = min((x for x in used if x >= len(requests)), default=0)
        if key == self._own:
            length = most
        length = length or power_of_two(requests, most)
        used.add(length)
        return Group(key[0], requests, length)


def most_tiled(canvas: tuple[int, int], native: int, batch_size: int) -> int:
    """Canvases of tiles at once: they overlap by half, about four times the pixels."""
    h, w = canvas
    return max(1, batch_size * native**2 // (4 * h * w))


def power_of_two(requests: Sequence[Request], most: int) -> int:
    """At least as many as there are requests, but no more than the most."""
    return min(most, 1 << (len(requests) - 1).bit_length())


def fill_group(fills: Fills, group: Group) -> Callable[[], np.ndarray]:
    """What the model makes of a group, when it is called; its inputs are made now."""
    # The last image is repeated up to the length that is compiled.
    requests = group.requests
    requests = requests + [requests[-1]] * (group.length - len(requests))
    inputs = [region_input(*request.read(), request.region) for request in requests]
    images, masks = (np.stack(arrays) for arrays in zip(*inputs, strict=True))
    seeds = [request.seed for request in requests]
    numbers = all(isinstance(seed, int) for seed in seeds)
    stacked = np.array(seeds, np.uint32) if numbers else jnp.stack(seeds)
    fill = fills.tiled if group.tiled else fills.whole
    return lambda: np.asarray(fill(images, masks, stacked), np.float32)


def fill_requests(
    fills: Fills,
    requests: Sequence[Request],
    native: int,
    batch_size: int,
    length: int | None = None,
) -> Iterator[tuple[Request, Float32[np.ndarray, "h w c"]]]:
    """Fills regions, those of one size at once, of whatever picture.

    Args:
      fills: the model.
      requests: the regions.
      native: pixels per side of the model.
      batch_size: images at once at most; of tiles as many.
      length: of a batch that is compiled already; else the next power of two, so that
        few are compiled.

    Yields:
      Each request and what fills it, of its box's size.
    """
    groups: dict[Key, list[Request]] = {}
    for request in requests:
        groups.setdefault(_key(request), []).append(request)
    for (tiled, canvas), group in groups.items():
        most = most_tiled(canvas, native, batch_size) if tiled else batch_size
        balanced = group[: balanced_batch_size(len(group), most)]
        size = length or power_of_two(balanced, most)
        for first in range(0, len(group), size):
            some = Group(tiled, group[first : first + size], size)
            for request, one in zip(
                some.requests, fill_group(fills, some)(), strict=False
            ):
                yield request, region_output(one, request.region)
