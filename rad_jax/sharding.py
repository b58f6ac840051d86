"""One mesh over all devices; the batch is divided, everything else is everywhere."""

import contextlib
import os
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

MAX_CPU_DEVICES = 8

T = TypeVar("T")
P = TypeVar("P")


def use_cpu_cores() -> None:
    """Makes a device of every core of a machine without accelerator.

    XLA runs parts of a training step on one core only (the weight gradients of
    convolutions): two halves of a batch on two cores take little more than half the
    time. No effect once JAX has been used, or next to an accelerator.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    with contextlib.suppress(RuntimeError):  # JAX is in use: as many as there are
        jax.config.update("jax_num_cpu_devices", min(cores, MAX_CPU_DEVICES))


def on_all_devices(batch: T, params: P) -> tuple[T, P]:
    """A batch divided over all devices, and what each of them has a copy of.

    Every device gets as many: the last entry fills the batch up.

    Args:
      batch: tree of arrays (b, ...).
      params: tree of arrays; those that are in place already are not copied.

    Returns:
      Both, placed; the batch of b rounded up to a multiple of the devices.
    """
    count, devices = len(jax.tree.leaves(batch)[0]), jax.device_count()
    rows = np.minimum(np.arange(count + -count % devices), count - 1)
    divided, everywhere = data_shardings(len(rows))
    batch = jax.tree.map(lambda x: x[rows], batch)
    return jax.device_put(batch, divided), jax.device_put(params, everywhere)


def data_shardings(batch_size: int) -> tuple[NamedSharding, NamedSharding]:
    """Shardings of a batch and of what every device has a copy of.

    Args:
      batch_size: images; as many devices take part as divide it.
    """
    count = max(n for n in range(1, jax.device_count() + 1) if batch_size % n == 0)
    # Explicit axes, JAX's default, do not know the network's reshapes.
    mesh = jax.make_mesh(
        (count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count]
    )
    return (
        NamedSharding(mesh, PartitionSpec("data")),
        NamedSharding(mesh, PartitionSpec()),
    )
