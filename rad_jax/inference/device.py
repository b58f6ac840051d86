"""The device as a thread that fills batches, and how long it waits for them."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from rad_jax.inference.fill_regions import Fills, Group, fill_group


class Device:
    """Fills batches in a thread of its own, and knows how long it waited for them.

    Attributes:
        busy: seconds of all batches but the first, which compiles.
        since: when the first one was done.
        until: when the last one was.
    """

    def __init__(self, fills: Fills):
        """Of this model."""
        self._fills = fills
        self._thread = ThreadPoolExecutor(1, "device")
        self.busy, self.since, self.until = 0.0, 0.0, 0.0

    def submit(self, group: Group) -> "Future[tuple[np.ndarray, float]]":
        """The results of a batch and its seconds, later. Its arrays are made now."""
        call = fill_group(self._fills, group)
        return self._thread.submit(self._compute, call)

    def _compute(self, call: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
        start = time.monotonic()
        filled = call()
        self.until = time.monotonic()
        seconds = self.until - start
        if self.since:
            self.busy += seconds
        else:
            self.since = self.until
        return filled, seconds

    @property
    def idle_share(self) -> float | None:
        """Of the time since the first batch; None if there was no second one."""
        if self.until <= self.since:
            return None
        return max(0.0, 1 - self.busy / (self.until - self.since))

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(cancel_futures=True)
