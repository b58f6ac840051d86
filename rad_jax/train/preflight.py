"""Whether the machines can do a training run: a minute, before hours are spent.

Started like the run itself, on all its processes. One line for each thing that is
checked, the first that fails is the last: devices, the network between them, their
speed, the data, and the workdir as all processes see it.
"""

import contextlib
import secrets
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.config.experiment import Experiment
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, bucket_errors, in_bucket, remove_folder
from rad_jax.runtime.distributed import from_main, is_main
from rad_jax.runtime.memory import size
from rad_jax.runtime.sharding import AXES, batch_sharding, everywhere, make_mesh
from rad_jax.train.input import open_batches
from rad_jax.train.plan import make_plan

DATA_SECONDS = 5.0
CHECKPOINT_BYTES = 2**26
SECONDS_TO_APPEAR = 30.0
"""Until a file of one host has to be seen by another: network file systems cache."""

T = TypeVar("T")


def preflight(experiment: Experiment | None, workdir: AnyPath | None) -> None:
    """Checks what a run needs, and prints a line each; all processes must call it.

    Args:
      experiment: the run's; None checks neither data nor its needs.
      workdir: the run's folder; None checks no folder. Nothing is left there.

    Raises:
      UserError: something is not as a run needs it.
    """
    _report("devices", devices)
    mesh = make_mesh(experiment.train.fsdp if experiment else 1)
    shape = ", ".join(f"{name} {mesh.shape[name]}" for name in AXES)
    _report("mesh", str, shape)
    plan = make_plan(experiment, mesh) if experiment else None
    if plan:
        _report("memory", str, f"the run needs about {size(plan.device)} per device")
    _report("sum over all devices", collective, mesh)
    for dtype in ("float32", "bfloat16"):
        _report(f"matrix product, {dtype}", product, mesh, jnp.dtype(dtype))
    if experiment:
        _report("data", data, experiment)
    if workdir:
        with _folder(workdir) as folder:
            _report("checkpoint", checkpoint, mesh, folder)
            _report("disk", disk, folder, plan.disk if plan else 0)


def devices() -> str:
    """Refuses processes with other devices than the rest."""
    kinds = Counter((d.process_index, d.platform, d.device_kind) for d in jax.devices())
    alike = {(platform, kind, n) for (_, platform, kind), n in kinds.items()}
    if len(alike) > 1:
        found = "; ".join(
            f"process {index} has {n} of {kind}"
            for (index, _, kind), n in kinds.items()
        )
        raise UserError(f"the processes have different devices: {found}")
    ((platform, kind, count),) = alike
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return (
        f"{jax.device_count()}, {count} in each of {jax.process_count()} processes: "
        f"{platform}, {kind}" + (f", {size(memory)} each" if memory else "")
    )


def collective(mesh: Mesh) -> str:
    """A sum over all devices whose result is known, and its rate."""
    count = mesh.size
    elements = 2**20 if _is_cpu(mesh) else 2**24

    def terms(x: jax.Array) -> jax.Array:
        total = jax.lax.psum(x, AXES)
        return jnp.stack([total.min(), total.max()])[None]

    numbers = jnp.arange(1.0, count + 1)[:, None]
    x = _make(lambda: jnp.broadcast_to(numbers, (count, elements)), mesh)
    found, seconds = _time(_on_each(terms, mesh), x)
    right = count * (count + 1) / 2
    for device, values in _local(found):
        if not np.all(values == right):
            raise UserError(
                f"the sum over all devices is wrong: {values.max():g} on {device}, not "
                f"{right:g}; a device or the network between the hosts is faulty"
            )
    moved = 2 * (count - 1) * 4 * elements // count  # by a device, in a ring
    rate = f", {_rate(moved, seconds)} per device" if moved else ""
    return f"right, {size(4 * elements)} in {1e3 * seconds:.2g} ms{rate}"


def product(mesh: Mesh, dtype: np.dtype) -> str:
    """A matrix product on each device, all at once."""
    side, repeats = (512, 4) if _is_cpu(mesh) else (4096, 16)

    def powers(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, repeats, lambda _, y: y @ y, x)

    shape = (mesh.size, side, side)
    x = _make(lambda: jnp.full(shape, 1 / side, dtype), mesh)  # is its own square
    found, seconds = _time(_on_each(powers, mesh), x)
    for device, values in _local(found):
        if not np.allclose(values.astype(np.float32), 1 / side, rtol=0.01, atol=0):
            raise UserError(f"a matrix product is wrong on {device}: it is faulty")
    rate = 2 * side**3 * repeats / seconds / 1e12
    return f"{rate:.3g} TFLOP/s per device, all at once"


def data(experiment: Experiment) -> str:
    """How fast the run's own input is when nothing else is to be done."""
    start = time.monotonic()
    batches = open_batches(experiment)
    try:
        next(batches)
        begun, images = time.monotonic(), 0
        while time.monotonic() < begun + DATA_SECONDS:
            images += len(next(batches)["image"])
        rate = images / (time.monotonic() - begun)
    finally:
        batches.close()
    rates = _gather(rate)
    slowest = f", the slowest {min(rates):.0f}" if len(rates) > 1 else ""
    return (
        f"{sum(rates):.0f} images/s in all processes{slowest}; the first batch took "
        f"{begun - start:.1f} s"
    )


def checkpoint(mesh: Mesh, folder: AnyPath) -> str:
    """Writes arrays as a run does, reads them, and compares.

    Raises:
      UserError: a process does not see what the first one writes, the folder cannot be
        written, or what is read is not what was written.
    """
    _see(folder)
    shape = (mesh.size, CHECKPOINT_BYTES // 8 // mesh.size)
    keys = jax.random.split(jax.random.key(0))
    tree = {
        "divided": _make(lambda: jax.random.normal(keys[0], shape), mesh),
        "copied": jax.jit(
            lambda: jax.random.normal(keys[1], shape), out_shardings=everywhere(mesh)
        )(),
    }
    jax.block_until_ready(tree)
    start = time.monotonic()
    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.save(1, {"params": tree}, {"data": {"position": 1}})
        checkpoints.wait()
        written = time.monotonic() - start
        start = time.monotonic()
        read = checkpoints.latest(
            lambda step: checkpoints.trees(step, {"params": tree})
        )
        jax.block_until_ready(read)
        seconds = time.monotonic() - start
    assert read is not None
    equal = jax.jit(
        lambda a, b: jax.tree.reduce(
            jnp.logical_and, jax.tree.map(jnp.array_equal, a, b)
        ),
        out_shardings=everywhere(mesh),
    )
    if not equal(tree, read["params"]).addressable_data(0):
        raise UserError(f"{folder.parent}: what was written there is not what is read")
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    return (
        f"{size(total)} written in {written:.1f} s ({_rate(total, written)}), read in "
        f"{seconds:.1f} s ({_rate(total, seconds)}), the same"
    )


def disk(folder: AnyPath, need: int) -> str:
    """Refuses a disk that the run's checkpoints would fill."""
    needs = f", the run needs {size(need)}" if need else ""
    if in_bucket(folder):
        return f"a bucket{needs}"
    free = shutil.disk_usage(folder).free
    if free < need:
        raise UserError(
            f"{folder.parent}: {size(free)} are free, and the run needs {size(need)}; "
            "choose another --workdir or lower train.keep_checkpoints"
        )
    return f"{size(free)} free{needs}"


@contextlib.contextmanager
def _folder(workdir: AnyPath) -> Iterator[AnyPath]:
    """``WORKDIR/preflight-<random>``, of all processes; removed at the end."""
    token = int(from_main(np.int32(secrets.randbits(31))))
    folder = workdir / f"preflight-{token:08x}"
    ours = [] if in_bucket(workdir) else _missing(workdir)
    try:
        if is_main():
            try:
                with bucket_errors(workdir):
                    folder.mkdir(parents=True)
                    (folder / "seen").write_bytes(b"")
            except OSError as error:
                raise UserError(
                    f"{workdir}: cannot be written ({error.strerror}); choose another "
                    "--workdir"
                ) from error
        from_main(np.int32(0))  # it is there, or this process is not
        yield folder
        from_main(np.int32(0))  # no other process needs it any more
    finally:
        if is_main():
            with contextlib.suppress(OSError):
                remove_folder(folder)
                for each in ours:
                    each.rmdir()


def _missing(folder: AnyPath) -> list[AnyPath]:
    """Of a folder and its parents those that are not there."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _see(folder: AnyPath) -> None:
    """Waits until all processes see the file that the first one has written."""
    deadline = time.monotonic() + SECONDS_TO_APPEAR
    while not (seen := (folder / "seen").exists()) and time.monotonic() < deadline:
        time.sleep(0.2)
    blind = [str(i) for i, each in enumerate(_gather(float(seen))) if not each]
    if blind:
        raise UserError(
            f"{folder.parent}: process {', '.join(blind)} does not see what the first "
            "one writes there; --workdir has to lie where all hosts see it"
        )


def _report(name: str, check: Callable[..., str], *arguments: Any) -> None:
    start = time.monotonic()
    text = check(*arguments)
    if is_main():
        seconds = time.monotonic() - start
        print(f"{name}: {text}  [{seconds:.1f} s]", flush=True)


def _make(function: Callable[[], jax.Array], mesh: Mesh) -> jax.Array:
    """An array whose rows are divided over all devices, made there."""
    return jax.jit(function, out_shardings=batch_sharding(mesh))()


def _on_each(function: Callable[[jax.Array], jax.Array], mesh: Mesh) -> Callable:
    """A function of a device's row; rows of the result."""
    rows = PartitionSpec(AXES)
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows))


def _time(function: Callable[[jax.Array], T], x: jax.Array) -> tuple[T, float]:
    """The result, and seconds once compiled: the median of 5."""
    result = jax.block_until_ready(function(x))
    laps = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        laps.append(time.perf_counter() - start)
    return result, max(statistics.median(laps), 1e-9)


def _rate(count: int, seconds: float) -> str:
    return f"{size(int(count / seconds))}/s"


def _local(x: jax.Array) -> list[tuple[Any, np.ndarray]]:
    """This process's devices and what is on them."""
    return [(shard.device, np.asarray(shard.data)) for shard in x.addressable_shards]


def _gather(value: float) -> list[float]:
    """Every process's value, in all of them."""
    if jax.process_count() == 1:
        return [value]
    return np.ravel(multihost_utils.process_allgather(np.float32(value))).tolist()


def _is_cpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"
