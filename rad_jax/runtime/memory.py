"""The devices' memory: what a batch needs, and smaller ones where it is too little."""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.errors import JaxRuntimeError

from rad_jax.errors import UserError
from rad_jax.runtime.batching import balanced_batch_size, batch_rows
from rad_jax.runtime.distributed import say


class Call(NamedTuple):
    """A compiled function and what it is to be called with; nothing is computed yet.

    Attributes:
      function: from ``jax.jit``.
      arguments: on the devices, the batch divided over them.
      count: images that are wanted; the batch may have been filled up.
      finish: makes of what the function gives what is wanted.
    """

    function: Any
    arguments: tuple[Any, ...]
    count: int
    finish: Callable[[Any], Any] = lambda found: found

    def __call__(self) -> Any:
        """What is wanted, such as images (count, h, w, c), or a tree of arrays."""
        found = self.finish(self.function(*self.arguments))
        return jax.tree.map(lambda x: x[: self.count], found)

    def need(self) -> int | None:
        """`bytes_needed`. It compiles; to call it afterwards does not compile again."""
        return bytes_needed(self.function.lower(*self.arguments).compile())


def bytes_needed(compiled: jax.stages.Compiled) -> int | None:
    """Bytes of a device, by the compiler's count; None if it keeps none."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    return (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
        + found.generated_code_size_in_bytes
    )


class RetryOnOOM:
    """Computes batches, in as many parts as the devices' memory makes necessary.

    When it runs out, the batch is halved, for all batches that follow, too. What the
    first part needs is said on stderr.
    """

    def __init__(self, prepare: Callable[..., Call]):
        """``prepare`` makes a call of the arrays (b, ...) of a batch."""
        self._prepare = prepare
        self._most = sys.maxsize
        self._said = False

    def __call__(self, *batch: Any) -> Any:
        """What the call gives of arrays (b, ...), which must not depend on their batch.

        NumPy's, an array (b, ...) or a tree of them.

        Raises:
          UserError: there is too little for one image on each device.
        """
        count = len(batch[0])
        while True:
            length = balanced_batch_size(count, min(count, self._most))
            try:
                parts = [
                    self._compute([array[rows] for array in batch])
                    for rows in batch_rows(count, length)
                ]
                return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)
            except JaxRuntimeError as error:
                if not str(error).startswith("RESOURCE_EXHAUSTED"):
                    raise
                self._most = _fewer(length, error)
            # The next attempt comes after the error, which holds on to arrays.

    def _compute(self, part: list[Any]) -> Any:
        call = self._prepare(*part)
        if not self._said:
            need = call.need()
            self._said = True
            if need is not None:
                say(f"needs about {size(need)} per device{_there(need)}")
        # Here, since what fails may fail late.
        return jax.tree.map(np.asarray, call())


def _fewer(length: int, error: Exception) -> int:
    """Half as many images on each device.

    Raises:
      UserError: there is one already.
    """
    devices = jax.local_device_count()
    here = math.ceil(length / devices)
    if here == 1:
        raise UserError(
            "out of memory with one image on each device; use --dtype bfloat16, a "
            "device with more memory, or smaller pictures"
        ) from error
    most = math.ceil(here / 2) * devices
    say(f"out of memory with {length} images at once, trying {most}")
    return most


def _there(need: int) -> str:
    """What a device has, if it tells."""
    stats = jax.local_devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    if not limit:
        return ""
    return f" of {size(limit)}{': TOO LITTLE' if limit < need else ''}"


def size(count: int) -> str:
    """Bytes as a person reads them."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log(max(count, 1), 1024)), len(units) - 1)
    value = count / 1024**power
    return f"{value:.{0 if value >= 100 or not power else 1}f} {units[power]}"
