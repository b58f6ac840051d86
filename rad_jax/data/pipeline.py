"""Batches of images, endless and shuffled, for training.

Grain shuffles, reads ahead and batches; PIL decodes. TensorFlow is never imported.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags

from rad_jax.data.examples import ToExample
from rad_jax.data.records import Source
from rad_jax.errors import UserError

Batch = dict[str, np.ndarray]
"""``image``, uint8 (b, h, w, c), and ``label``, int32 (b,)."""

# A thread of Grain makes one batch. With four threads for each core, that took a sixth
# more time than with one. Grain's default, to hold 500 batches, would fill the memory.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
NUM_THREADS = min(max(CORES, 2), 16)
READ_OPTIONS = grain.ReadOptions(NUM_THREADS, prefetch_buffer_size=2 * NUM_THREADS)

# In each worker process: one batch is read while another is decoded.
WORKER_READ_OPTIONS = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)

# Batches come through a pipe, not in shared memory: a container has 64 MB of that, and
# what is left of it when an error ends the run is complained about on stderr.
WORKER_OPTIONS = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)


class Shard(NamedTuple):
    """One of several equal parts of every batch.

    Attributes:
        index: which one, 0 .. count - 1 (the process index).
        count: how many there are.
    """

    index: int
    count: int


WHOLE = Shard(0, 1)


class _Parts(grain.MapDataset[Batch]):
    """Examples in batches, each put in its place as soon as it is made.

    Grain's own batches are stacked when all examples are there, in memory that is no
    longer at hand: they take a tenth more time.
    """

    def __init__(self, examples: grain.MapDataset, size: int):
        """How many examples make one."""
        super().__init__(examples)
        self._examples = examples
        self._size = size

    def __len__(self) -> int:
        """Whole ones."""
        return len(self._examples) // self._size

    def __getitem__(self, index: Any) -> Any:
        """One, or as a data set those of a slice."""
        if isinstance(index, slice):
            return self.slice(index)
        batch: Batch = {}
        for i in range(self._size):
            for name, value in self._examples[index * self._size + i].items():
                if not i:
                    batch[name] = np.empty((self._size, *value.shape), value.dtype)
                batch[name][i] = value
        return batch


class Batches(Iterator[Batch]):
    """One shard's part of an endless stream of global batches.

    The position is the number of examples that all shards together have used. It says
    nothing of shards or workers: what one number of them has saved serves any other.
    """

    def __init__(
        self,
        examples: grain.MapDataset,
        batch_size: int,
        shard: Shard,
        num_workers: int,
    ):
        """Starts at position 0; see `batches` for the arguments."""
        self._examples = examples
        self._batch_size = batch_size
        self._shard = slice(shard.index, None, shard.count)
        self._part = batch_size // shard.count
        self._workers = grain.MultiprocessingOptions(num_workers)
        self._position = 0
        self._iterator: grain.DatasetIterator | None = None

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            UserError: an image in it cannot be used.
        """
        if self._iterator is None:
            self._iterator = self._start()
        batch = next(self._iterator)
        self._position += self._batch_size
        return batch

    def _start(self) -> grain.DatasetIterator:
        # Counted from here, every n-th part of a batch is this shard's.
        ahead = _Parts(self._examples[self._position :], self._part)
        # Counted in batches, not examples: side by side they are the global batch.
        parts = ahead.slice(self._shard)
        if not self._workers.num_workers:
            return iter(parts.to_iter_dataset(READ_OPTIONS))
        dataset = grain.experimental.WithOptionsIterDataset(
            parts.to_iter_dataset(WORKER_READ_OPTIONS), WORKER_OPTIONS
        )
        return iter(dataset.mp_prefetch(self._workers, _ignore_signals))

    def get_state(self) -> dict[str, int]:
        """The position after the last batch, as JSON stores it."""
        return {"global_next_index": self._position}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position that `get_state` gave, here or elsewhere."""
        # What was read ahead belongs to the old position.
        self.close()
        self._position = state["global_next_index"]

    def close(self) -> None:
        """Ends the threads and processes; the next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


def batches(
    source: Source,
    to_example: ToExample,
    *,
    batch_size: int,
    seed: int,
    shard: Shard = WHOLE,
    num_workers: int = 0,
) -> Batches:
    """Shuffled batches without end; each epoch has every example once, in a new order.

    A batch depends on the arguments and the position only, not on shards or workers.
    Shard i of n gets the i-th of n equal parts of each global batch: side by side, the
    shards' batches are the batch of one.

    Args:
        source: the records.
        to_example: makes an example of each; all have one shape.
        batch_size: examples per step, over all shards.
        seed: of the order, the crops and the flips, 0 to 2**32 - 1.
        shard: which part of each batch; by default all of it.
        num_workers: processes that decode; 0 decodes in threads. They are spawned:
            the program's main module must be importable without running it.

    Returns:
        An iterator over ``{"image": uint8 (b, h, w, c), "label": int32 (b,)}`` with
        ``b = batch_size / shard.count``. Labels are 0 in a data set without classes.

    Raises:
        UserError: the shards cannot share the batch equally.
    """
    if batch_size % shard.count:
        raise UserError(
            f"batch_size={batch_size}: must be a multiple of the number of processes, "
            f"{shard.count}"
        )
    parse_flags()
    examples = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat()
        # Random by the index in the stream: wherever and whenever it is computed, an
        # example is the same.
        .random_map(to_example)
    )
    return Batches(examples, batch_size, shard, num_workers)


def parse_flags() -> None:
    """Grain reads absl flags, also outside app.run."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _ignore_signals(worker_index: int, worker_count: int) -> None:
    """Lets Ctrl-C and a cluster's SIGTERM, sent to all, stop the run politely.

    The parent goes on to the end of its step and ends its workers itself. If it cannot,
    killed, they end with it.
    """
    del worker_index, worker_count
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
