"""One mesh over all devices: the batch is divided, what trains may be, too."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from rad_jax.errors import UserError

MAX_CPU_DEVICES = 8
AXES = ("data", "fsdp")
"""The batch is divided over both; what trains over the second."""

SMALLEST_SHARDED = 2**12
"""Elements; to gather fewer costs more than they take."""

AnyMesh = Mesh | AbstractMesh
T = TypeVar("T")
P = TypeVar("P")


def use_cpu_cores(batch_size: int = 0) -> None:
    """Makes a device of every core of a machine without accelerator.

    XLA runs parts of a training step on one core only (the weight gradients of
    convolutions): two halves of a batch on two cores take little more than half the
    time. No effect once JAX has been used, next to an accelerator, or where
    JAX_NUM_CPU_DEVICES says how many.

    Args:
      batch_size: what they will share: as many cores as divide it; 0 for any number.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    most = min(cores, MAX_CPU_DEVICES)
    count = max(n for n in range(1, most + 1) if batch_size % n == 0)
    with contextlib.suppress(RuntimeError):  # JAX is in use: as many as there are
        jax.config.update("jax_num_cpu_devices", count)


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of a training run, over all devices of all processes.

    Neighbours share a copy of what trains; each process has one block of the batch,
    in the order of the processes.

    Args:
      fsdp: how many devices share a copy.
      devices: others than those that are here, to compile for.

    Raises:
      UserError: the devices cannot be divided so.
    """
    # jax.make_mesh may order devices by their wires: another order of the batch.
    every = jax.devices() if devices is None else devices
    devices = sorted(every, key=lambda d: (d.process_index, d.id))
    if len(devices) % fsdp:
        raise UserError(
            f"train.fsdp is {fsdp}, which does not divide the number of devices, "
            f"{len(devices)}"
        )
    # Explicit axes, JAX's default, do not know the network's reshapes.
    return Mesh(np.reshape(devices, (-1, fsdp)), AXES, (AxisType.Auto,) * 2)


def local_mesh(most: int | None = None) -> Mesh:
    """The mesh of this process's devices: inference does not need the others.

    Args:
      most: no more of them than this, >= 1; by default all.
    """
    devices = np.reshape(jax.local_devices()[:most], (-1, 1))
    return Mesh(devices, AXES, (AxisType.Auto,) * 2)


def abstract_mesh(devices: int, fsdp: int = 1) -> AbstractMesh:
    """A mesh of devices that need not exist, to plan and lower a step for."""
    if devices % fsdp:
        raise UserError(f"train.fsdp is {fsdp}, which does not divide {devices}")
    return AbstractMesh((devices // fsdp, fsdp), AXES, (AxisType.Auto,) * 2)


def batch_sharding(mesh: AnyMesh) -> NamedSharding:
    """Of a batch: its first axis over all devices."""
    # Over "fsdp", too: devices that share parameters compute different images.
    return NamedSharding(mesh, PartitionSpec(AXES))


def everywhere(mesh: AnyMesh) -> NamedSharding:
    """Of what every device has a copy of."""
    return NamedSharding(mesh, PartitionSpec())


def tree_shardings(tree: Any, mesh: AnyMesh) -> Any:
    """Of what trains: large leaves are divided over "fsdp", along one axis.

    Args:
      tree: of arrays or shapes.
      mesh: of `AXES`.

    Returns:
      A tree of NamedShardings: the longest axis that "fsdp" divides, the first of them;
      a copy everywhere of leaves without one, or of few elements.
    """
    fsdp = mesh.shape["fsdp"]

    def rule(leaf: Any) -> NamedSharding:
        axes = [axis for axis, n in enumerate(leaf.shape) if n % fsdp == 0]
        if fsdp == 1 or leaf.size < SMALLEST_SHARDED or not axes:
            return everywhere(mesh)
        # Pieces of a short axis may be narrower than the tiles of a matrix unit.
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))

    return jax.tree.map(rule, tree)


def shapes_on(tree: Any, shardings: Any) -> Any:
    """The shapes of a tree, with where its leaves belong."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
        shardings,
    )


def place(tree: T, shardings: Any) -> T:
    """Arrays that every process has whole, on the devices of all processes."""

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        whole = np.asarray(leaf)  # device_put would compare it across processes
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(put, tree, shardings)


def place_batch(local: np.ndarray, mesh: Mesh) -> jax.Array:
    """A batch of which this process has its own part."""
    with jax.transfer_guard("allow"):  # it does not count as explicit, and is
        return jax.make_array_from_process_local_data(batch_sharding(mesh), local)


def local_copy(tree: T, mesh: Mesh) -> T:
    """What all processes share, gathered, as NumPy arrays; all of them must call it."""
    shardings = jax.tree.map(lambda _: everywhere(mesh), tree)
    # Other processes' shards cannot be read from here; a program can gather them.
    gathered = jax.jit(lambda x: x, out_shardings=shardings)(tree)
    return jax.tree.map(lambda x: jax.device_get(x.addressable_data(0)), gathered)


def sum_over_devices(tree: T, mesh: AnyMesh) -> T:
    """Sum over all devices of the mesh; to be called inside ``shard_map`` over `AXES`.

    Between CPUs it is the same to the bit however many processes they belong to: there
    XLA's own sums have one order within a process and another between processes. Here,
    each round adds what two devices have, so that all of them do the same sums.
    """
    size = mesh.size
    if size == 1:
        return tree
    platform = mesh.devices.flat[0].platform if isinstance(mesh, Mesh) else ""
    # Pairs at doubling distances need a power of two.
    if platform != "cpu" or size & (size - 1):
        return jax.lax.psum(tree, AXES)
    # One vector: a message per round, not one per leaf.
    flat, unravel = ravel_pytree(tree)
    distance = 1
    while distance < size:
        pairs = [(i, i ^ distance) for i in range(size)]
        flat = flat + jax.lax.ppermute(flat, AXES, pairs)
        distance *= 2
    return unravel(flat)


def on_all_devices(batch: T, params: P) -> tuple[T, P]:
    """A batch divided over this process's devices, and what each has a copy of.

    Every device gets as many: the last entry fills the batch up. A batch that is
    smaller than they are many takes fewer of them: cores of a CPU that compute what
    nobody wants are missing where one image is computed on all.

    Args:
      batch: tree of arrays (b, ...).
      params: tree of arrays; those that are in place already are not copied.

    Returns:
      Both, placed; the batch of b rounded up to a multiple of the devices.
    """
    count = len(jax.tree.leaves(batch)[0])
    mesh = local_mesh(count)
    # Copies of the last entry, not zeros: they are valid, keys and masks alike.
    if count % mesh.size:
        rows = np.minimum(np.arange(count + -count % mesh.size), count - 1)
        batch = jax.tree.map(lambda x: x[rows], batch)
    return jax.device_put(batch, batch_sharding(mesh)), _copied(params, mesh)


def _copied(params: P, mesh: Mesh) -> P:
    """A copy of each array on every device of a mesh.

    `jax.device_put` is slow with many arrays, also with those that are in place, and a
    network has hundreds: it was felt in every call of a small one.
    """
    # Each device has all parameters, so that no layer waits for another device.
    there = everywhere(mesh)

    def copied(x: Any) -> bool:
        return isinstance(x, jax.Array) and x.sharding.is_equivalent_to(there, x.ndim)

    if mesh.size == 1:
        params = jax.tree.map(_first_copy, params)
    if all(map(copied, jax.tree.leaves(params))):
        return params
    return jax.device_put(params, there)


def _first_copy(x: Any) -> Any:
    """Of an array that several devices have copies of, the first one's."""
    several = isinstance(x, jax.Array) and len(x.sharding.device_set) > 1
    return x.addressable_data(0) if several and x.is_fully_replicated else x
