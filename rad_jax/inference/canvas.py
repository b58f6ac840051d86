"""A picture on its way: who has it, its results as they grow, what became of it."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.pairing import Pair
from rad_jax.files.pictures import encode_picture, pixels_in
from rad_jax.inference.fill_regions import Request
from rad_jax.inference.picture_fill import Decoded, FillSettings, Loaded
from rad_jax.inference.results import require_finite
from rad_jax.inference.scaling import paste_region, region_output


class Item(NamedTuple):
    """A picture whose turn will come.

    Attributes:
        open: reads what is not on this machine yet, or gives what was decoded
            elsewhere; called in a thread, may raise UserError.
        name: of the picture, for errors.
        tag: the caller's.
    """

    open: Callable[[], Pair | Decoded]
    name: str
    tag: Any = None


class Outcome(NamedTuple):
    """What has become of a picture.

    Attributes:
        item: the picture.
        pair: what it was opened as; None if it could not be.
        error: why there is no result; None if there is.
        share: of the picture that was filled, 0 to 1.
        strategies: of its regions, such as ("crop", "tile"); none without a hole.
        scale: of the region that was scaled down most; 1 without a hole.
        seconds: of decoding, of its share of the device's work, and of encoding.
        remarks: of files, what there is to say.
    """

    item: Item
    pair: Pair | None
    error: UserError | None
    share: float = 0.0
    strategies: tuple[str, ...] = ()
    scale: float = 1.0
    seconds: float = 0.0
    remarks: tuple[tuple[object, str], ...] = ()


Write = Callable[[Item, Pair, list[bytes]], None]
"""Writes the files of a picture's results; called in threads."""


class Canvas:
    """The results of one picture as they grow; several threads paste into them.

    Attributes:
        item: the picture.
        pair: what it was opened as.
    """

    def __init__(
        self,
        item: Item,
        pair: Pair,
        loaded: Loaded,
        settings: FillSettings,
        seconds: float,
    ):
        """Of a picture that took so many seconds to read."""
        count, samples = settings.options.num_samples, loaded.picture.samples
        self.item, self.pair = item, pair
        self._loaded, self._settings = loaded, settings
        # They are written to only where there are regions.
        copies = bool(loaded.regions)
        self._samples = [samples.copy() if copies else samples for _ in range(count)]
        self._left = count * len(loaded.regions)
        self._seconds = seconds
        self._error: UserError | None = None
        self._lock = threading.Lock()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be filled."""
        return not self._left

    def paste(
        self, sample: int, request: Request, filled: np.ndarray, seconds: float
    ) -> bool:
        """Pastes what fills a region into a result.

        Args:
            sample: number of the result.
            request: the region.
            filled: of its canvas.
            seconds: its share of the device's.

        Returns:
            Whether nothing is left to be filled now.
        """
        region, error = request.region, None
        generated = region_output(filled, region)
        try:
            helps = self._settings.fills.non_finite
            inside = pixels_in(region.part, generated)
            require_finite(inside, self.pair.image, helps)
        except UserError as found:
            error = found
        picture, opaque = self._loaded.picture, self._settings.options.opaque_hole
        with self._lock:  # boxes of regions overlap
            self._seconds += seconds
            self._error = self._error or error
            if self._error is None:
                samples = self._samples[sample]
                paste_region(picture, samples, region, generated, opaque=bool(opaque))
            self._left -= 1
            return self.complete

    def write(self, write: Write) -> Outcome:
        """Encodes the results and writes them, unless one is an error.

        Raises:
            UserError: of ``write``.
        """
        if self._error is None:
            start = time.monotonic()
            write(self.item, self.pair, list(self._encoded()))
            self._seconds += time.monotonic() - start
        regions, inside = self._loaded.regions, self._loaded.hole.inside
        return Outcome(
            self.item,
            self.pair,
            self._error,
            float(np.mean(inside)),
            tuple(dict.fromkeys(region.strategy for region in regions)),
            min((region.scale for region in regions), default=1.0),
            self._seconds,
            tuple(self._loaded.remarks),
        )

    def _encoded(self) -> Iterator[bytes]:
        text, quality = self._settings.text, self._settings.options.quality
        for path, samples in zip(self.pair.outputs, self._samples, strict=True):
            yield encode_picture(path, samples, self._loaded.picture, text, quality)
