"""Fills the regions of many pictures in batches of one size each."""

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
    groups: dict[tuple[bool, tuple[int, int]], list[Request]] = {}
    for request in requests:
        region = request.region
        groups.setdefault((region.strategy == "tile", region.canvas), []).append(
            request
        )
    for (tiled, (h, w)), group in groups.items():
        # Tiles overlap by half: about four times as many pixels as the image has.
        most = max(1, batch_size * native**2 // (4 * h * w)) if tiled else batch_size
        size = length or min(most, _power_of_two(balanced_batch_size(len(group), most)))
        for first in range(0, len(group), size):
            some = group[first : first + size]
            # The last image is repeated up to the length that is compiled.
            filled = _filled(
                fills.tiled if tiled else fills.whole,
                some + [some[-1]] * (size - len(some)),
            )
            for request, one in zip(some, filled, strict=False):
                yield request, region_output(one, request.region)


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _filled(fill: Fill, requests: Sequence[Request]) -> Float32[np.ndarray, "b h w c"]:
    """What the model makes of a batch."""
    inputs = [region_input(*request.read(), request.region) for request in requests]
    images, masks = (np.stack(arrays) for arrays in zip(*inputs, strict=True))
    seeds = [request.seed for request in requests]
    numbers = all(isinstance(seed, int) for seed in seeds)
    stacked = np.array(seeds, np.uint32) if numbers else jnp.stack(seeds)
    return np.asarray(fill(images, masks, stacked), np.float32)
