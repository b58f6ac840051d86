"""Batches that are on the devices before they are asked for."""

import collections
import concurrent.futures
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import jax

from rad_jax.data.pipeline import Batch, Batches

Placed = TypeVar("Placed", bound=jax.Array)


class Prefetch(Iterator[Placed], Generic[Placed]):
    """Hands out batches in order, and places the next ones on the devices meanwhile.

    A thread of its own does so: if the loop asked the pipeline itself, a batch that is
    late would keep it from those that are there.

    Attributes:
        position: in the data, after the batch that was handed out last; those read
            ahead do not count, so that a checkpoint can store it.
        seconds_waited: in all, for batches that were not there yet.
    """

    def __init__(
        self, batches: Batches, place: Callable[[Batch], Placed], depth: int = 2
    ):
        """Starts at once.

        Args:
            batches: where they come from, at its present position; nobody else may use
                it from now on.
            place: puts one on the devices. It is called in another thread, where no
                process may wait for another.
            depth: how many to have ready, >= 1.
        """
        self.position = batches.get_state()
        self.seconds_waited = 0.0
        self._batches = batches
        self._place = place
        # One: with two, a batch could get the position of the next.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "prefetch")
        self._ahead = collections.deque(
            self._thread.submit(self._fetch) for _ in range(depth)
        )

    def _fetch(self) -> tuple[dict[str, int], Placed]:
        batch = next(self._batches)
        # The position belongs to this batch; asked later, it would be ahead.
        return self._batches.get_state(), self._place(batch)

    def __next__(self) -> Placed:
        """The next batch.

        Raises:
            UserError: an image in it cannot be used.
        """
        # Before the wait, so that the thread has work during it.
        self._ahead.append(self._thread.submit(self._fetch))
        start = time.monotonic()
        self.position, placed = self._ahead.popleft().result()
        self.seconds_waited += time.monotonic() - start
        return placed

    def close(self) -> None:
        """Ends the thread, and those and the processes of the pipeline."""
        self._thread.shutdown(cancel_futures=True)
        self._batches.close()
