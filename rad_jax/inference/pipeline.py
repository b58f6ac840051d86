"""Pictures through a device: threads decode before it and encode behind it.

The device computes one batch while the next one is put together, and no queue grows:
what is read, waits, is computed and is written at once has a bound, however many
pictures there are.
"""

import collections
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.pairing import Pair
from rad_jax.inference.canvas import Canvas, Item, Outcome, Write
from rad_jax.inference.device import Device
from rad_jax.inference.fill_regions import Group, Groups, Request
from rad_jax.inference.picture_fill import (
    FillSettings,
    Loaded,
    decode_pair,
    plan_picture,
    requests_of,
)

MOST_THREADS = 8
"""That decode, and as many that encode; fewer where there are fewer cores."""

DEVICE_QUEUE = 2
"""Batches that are computed or ready: while one is computed the next one waits."""


def fill_items(
    items: Iterable[Item],
    settings: FillSettings,
    write: Write,
    device: Device,
    *,
    length: int,
) -> Iterator[Outcome]:
    """Fills pictures, in whatever order.

    Args:
        items: read as far ahead as the threads need.
        settings: how.
        write: what to do with results. A UserError of its ends everything.
        device: that the model is on.
        length: of batches of the network's own size: always the same, so that a result
            does not depend, not even by rounding, on what else was in its batch.

    Yields:
        What has become of each; where there are results, they are written.

    Raises:
        UserError: of ``write``.
    """
    threads = min(os.cpu_count() or 1, MOST_THREADS)
    batch_size = settings.options.batch_size
    groups = Groups(settings.sizes.native, batch_size, length)
    with contextlib.ExitStack() as stack:
        pools = []
        for name in ("decode", "encode"):
            pool = ThreadPoolExecutor(threads, name)
            stack.callback(pool.shutdown, cancel_futures=True)
            pools.append(pool)
        readers, writers = pools
        work = _Work(write, device, writers, batch_size + 4 * threads)

        def opened(item: Item) -> tuple[Pair, Loaded, float]:
            start = time.monotonic()
            found, elsewhere = item.open(), 0.0
            if isinstance(found, Pair):
                found = decode_pair(found, settings.options)
            else:
                elsewhere = found.seconds
            loaded = plan_picture(found, settings)
            return found.pair, loaded, elsewhere + time.monotonic() - start

        try:
            for item, read in _ahead(readers, opened, items, batch_size + 2 * threads):
                yield from work.ended()
                try:
                    pair, loaded, seconds = read.result()
                except UserError as error:
                    yield Outcome(item, None, error)
                    continue
                canvas = Canvas(item, pair, loaded, settings, seconds)
                if canvas.complete:
                    work.finish(canvas)
                for request in requests_of(pair, loaded, settings):
                    owned = request._replace(owner=(canvas, request.owner))
                    for group in groups.add(owned):
                        work.fill(group)
            for group in groups.rest():
                work.fill(group)
            yield from work.all()
        except UserError:
            # What is computed shall not be lost.
            yield from work.salvaged()
            raise


def _ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Any],
    items: Iterable[Item],
    depth: int,
) -> Iterator[tuple[Item, "Future[Any]"]]:
    """The items with what a function makes of them, begun so far ahead."""
    waiting: collections.deque[tuple[Item, Future[Any]]] = collections.deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > depth:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


class _Work:
    """What is on its way from the device to the files."""

    def __init__(
        self,
        write: Write,
        device: Device,
        writers: ThreadPoolExecutor,
        most: int,
    ):
        self._write, self._device, self._writers = write, device, writers
        self._most = most
        self._computing: collections.deque[tuple[Group, Future[Any]]]
        self._computing = collections.deque()
        self._writing: collections.deque[Future[list[Outcome]]] = collections.deque()
        self._ended: list[Outcome] = []

    def fill(self, group: Group) -> None:
        """Gives a batch to the device; waits if it has enough."""
        self._computing.append((group, self._device.submit(group)))
        while len(self._computing) > DEVICE_QUEUE:
            self._collect()

    def finish(self, canvas: Canvas) -> None:
        """Writes a picture's results, all of which are there."""
        self._submit(self._written, canvas)

    def ended(self) -> list[Outcome]:
        """What has ended since it was asked last."""
        while self._computing and self._computing[0][1].done():
            self._collect()
        while self._writing and self._writing[0].done():
            self._ended += self._writing.popleft().result()
        return self._taken()

    def all(self) -> Iterator[Outcome]:
        """Waits for the rest."""
        while self._computing:
            self._collect()
        while self._writing:
            self._ended += self._writing.popleft().result()
            yield from self._taken()
        yield from self._taken()

    def salvaged(self) -> list[Outcome]:
        """What could be written although something has failed."""
        for future in self._writing:
            with contextlib.suppress(UserError):
                self._ended += future.result()
        return self._taken()

    def _taken(self) -> list[Outcome]:
        """What has ended; each is given once, whatever fails afterwards."""
        ended, self._ended = self._ended, []
        return ended

    def _collect(self) -> None:
        """Gives the results of the oldest batch to the writers."""
        group, computed = self._computing.popleft()
        filled, seconds = computed.result()
        for request, one in zip(group.requests, filled, strict=False):
            self._submit(self._pasted, request, one, seconds / len(group.requests))

    def _submit(self, function: Callable[..., list[Outcome]], *arguments: Any) -> None:
        while len(self._writing) >= self._most:
            self._ended += self._writing.popleft().result()
        self._writing.append(self._writers.submit(function, *arguments))

    def _pasted(
        self, request: Request, filled: np.ndarray, seconds: float
    ) -> list[Outcome]:
        """Pastes a region; of a picture's last one writes the picture."""
        canvas, sample = request.owner
        last = canvas.paste(sample, request, filled, seconds)
        return self._written(canvas) if last else []

    def _written(self, canvas: Canvas) -> list[Outcome]:
        return [canvas.write(self._write)]
