"""What a run will need, before it starts: memory of a device, and disk."""

import dataclasses
import functools
import math
import shutil
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rad_jax.chips.table import chip_of, peak_flops
from rad_jax.config.experiment import Experiment
from rad_jax.diffusion.distil_config import TAUGHT
from rad_jax.files.bucket import AnyPath, in_bucket
from rad_jax.models import autoencoder
from rad_jax.models.lora import adapted_params, partition
from rad_jax.models.network import abstract_params
from rad_jax.runtime.flops import count_flops
from rad_jax.runtime.memory import size
from rad_jax.runtime.sharding import (
    AnyMesh,
    abstract_mesh,
    batch_sharding,
    shapes_on,
    tree_shardings,
)
from rad_jax.train import objective
from rad_jax.train.speed import Speed
from rad_jax.train.state import Frozen, TrainState, init_state
from rad_jax.train.step import (
    Batch,
    batch_unit,
    check_batch,
    make_gradient,
    make_train_step,
)

DEVICES = (1, 8, 64)
"""Counts that ``rad-jax train --dry_run`` reports the need for."""

LOWERED_FOR = 8
"""Devices that it lowers the step for."""


OVER_KEPT, OVER_KEPT_BLOCKS = 1.5, 2.15
"""What a step needs for maps at its fullest moment, over what the way back keeps of
them; and where blocks are computed again. Fitted to compiled programs, docs/chips.md.
"""


class Plan(NamedTuple):
    """Numbers of parameters, and bytes.

    Attributes:
      trained: parameters that train.
      frozen: those of the network that do not.
      state: of a device: what trains, its average and the optimiser.
      base: of a device: what is frozen, a teacher's parameters too.
      gradient: of a device: the gradient, what is gathered for a step, and kernels
        with their adapters.
      activations: of a device, what the way back needs; about.
      checkpoint: of one, on disk.
      disk: of all that are kept, one being written, and what is frozen.
    """

    trained: int
    frozen: int
    state: int
    base: int
    gradient: int
    activations: int
    checkpoint: int
    disk: int

    @property
    def device(self) -> int:
        """Bytes of a device; about."""
        return self.state + self.base + self.gradient + self.activations

    def summary(self, workdir: AnyPath) -> str:
        """One line, with the disk that is free, if it is one."""
        text = f"needs about {size(self.device)} per device and {size(self.disk)} "
        if in_bucket(workdir):
            text += "in the bucket"
        else:
            path = workdir.absolute()
            existing = next(p for p in (path, *path.parents) if p.exists())
            free = shutil.disk_usage(existing).free
            short = "" if free > self.disk else ": TOO LITTLE"
            text += f"on disk ({size(free)} free{short})"
        return f"{text}; a checkpoint is {size(self.checkpoint)}"


def make_plan(experiment: Experiment, mesh: AnyMesh) -> Plan:
    """The need of a run; nothing is computed, only shapes.

    Raises:
      UserError: the devices cannot share the batch.
    """
    settings = experiment.train
    check_batch(experiment, mesh.size)
    state = jax.eval_shape(lambda: init_state(experiment))
    frozen = frozen_shapes(experiment)
    kept = _bytes(state)
    mine = _bytes(state, tree_shardings(state, mesh))
    base = _bytes(frozen, tree_shardings(frozen, mesh))
    gathered = _bytes((state.params, frozen)) if mesh.shape["fsdp"] > 1 else 0
    # Those of a block alone, where it is computed again; none of kernels in bfloat16.
    beside = experiment.lora.base_dtype == "bfloat16"
    merged = 0 if experiment.model.use_remat or beside else 4 * _count(frozen.base)
    extra = settings.num_steps // settings.keep_every if settings.keep_every else 0
    checkpoints = settings.keep_checkpoints + 1 + extra
    return Plan(
        trained=_count(state.params),
        frozen=_count(frozen.base),
        state=mine,
        base=base,
        gradient=_bytes(state.params) + gathered + merged,
        activations=_activations(experiment, mesh.size),
        checkpoint=kept,
        disk=kept * checkpoints + _bytes(frozen),
    )


def frozen_shapes(experiment: Experiment) -> Frozen:
    """Shapes of what does not train, trees that may be empty."""
    teacher, codec = {}, {}
    if experiment.distil.kind in TAUGHT:
        teacher = abstract_params(experiment.model)
    if experiment.codec:
        codec = autoencoder.abstract_params(experiment.codec)
    if not experiment.lora.rank:
        return Frozen({}, teacher, codec)
    shapes = adapted_params(experiment.model, experiment.lora)
    _, frozen = partition(experiment.model, experiment.lora, shapes)
    dtype = jnp.dtype(experiment.lora.base_dtype)
    base = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, dtype if x.ndim > 1 else x.dtype),
        frozen,
    )
    return Frozen(base, teacher, codec)


def step_speed(experiment: Experiment, mesh: Mesh) -> Speed:
    """The clock of a run; it knows its share of the peak where the chip's is known."""
    kind = mesh.devices.flat[0].device_kind
    peak = peak_flops(chip_of(kind), experiment.model.dtype)
    if peak is None:
        return Speed(experiment.train.batch_size, 0.0, 0.0)
    flops = step_flops(experiment, mesh)
    return Speed(experiment.train.batch_size, flops, peak * mesh.size)


def step_flops(experiment: Experiment, mesh: AnyMesh) -> float:
    """Floating-point operations of a step's convolutions and matrix products.

    Blocks that are recomputed count once: it is what the gradient needs.
    """
    state, frozen, batch = step_shapes(experiment, mesh)
    model = experiment.model
    if model.use_remat:
        experiment = dataclasses.replace(
            experiment, model=dataclasses.replace(model, use_remat=False)
        )
    gradient = make_gradient(experiment, mesh)
    keys = _keys(experiment.train.batch_size)
    return count_flops(gradient, state.params, frozen, batch, keys)


def step_shapes(experiment: Experiment, mesh: AnyMesh) -> tuple[TrainState, Any, Batch]:
    """Arguments of the step, as shapes with their shardings."""
    state = jax.eval_shape(lambda: init_state(experiment))
    frozen = frozen_shapes(experiment)
    images: Any = _images(experiment, experiment.train.batch_size)
    stop: Any = jax.ShapeDtypeStruct((mesh.size,), np.int32)
    batch = Batch(images, stop)
    over_all = jax.tree.map(lambda _: batch_sharding(mesh), batch)
    return (
        shapes_on(state, tree_shardings(state, mesh)),
        shapes_on(frozen, tree_shardings(frozen, mesh)),
        shapes_on(batch, over_all),
    )


def dry_run(experiment: Experiment) -> str:
    """What a run would need on several numbers of devices, and that it lowers."""
    plans = {}
    for devices in DEVICES:
        there = _shared_by(experiment, devices)
        mesh = abstract_mesh(devices, min(experiment.train.fsdp, devices))
        plans[devices] = there, make_plan(there, mesh)
    one = plans[1][1]
    total = one.trained + one.frozen
    lines = [
        f"{total:,} parameters, of which {one.trained:,} "
        f"({one.trained / total:.1%}) train",
        f"a checkpoint is {size(one.checkpoint)}; all that are kept {size(one.disk)}",
    ]
    for devices, (there, plan) in plans.items():
        count = there.train.batch_size
        more = "" if there == experiment else ", the fewest that they can share"
        lines.append(
            f"{devices} device{'s' * (devices > 1)}, {count} images{more}: about "
            f"{size(plan.device)} per device (state {size(plan.state)}, frozen "
            f"{size(plan.base)}, gradient {size(plan.gradient)}, activations "
            f"{size(plan.activations)})"
        )
    mesh = abstract_mesh(LOWERED_FOR, experiment.train.fsdp)
    there = _shared_by(experiment, LOWERED_FOR)
    flops = step_flops(there, mesh) / there.train.batch_size
    lines.append(f"a step takes {flops / 1e12:.3g} TFLOP for each image")
    start = time.monotonic()
    step = make_train_step(there, mesh)
    step.trace(*step_shapes(there, mesh)).lower(lowering_platforms=("tpu",))
    seconds = time.monotonic() - start
    lines.append(
        f"the step lowers for {LOWERED_FOR} TPU devices (data {mesh.shape['data']}, "
        f"fsdp {mesh.shape['fsdp']}), in {seconds:.0f} s"
    )
    return "\n".join(lines)


def _shared_by(experiment: Experiment, devices: int) -> Experiment:
    """The same with the next batch that so many devices can share."""
    settings = experiment.train
    unit = batch_unit(experiment, devices)
    batch_size = -(-settings.batch_size // unit) * unit
    train = dataclasses.replace(settings, batch_size=batch_size)
    return dataclasses.replace(experiment, train=train)


def _activations(experiment: Experiment, devices: int) -> int:
    """What a device's part of a batch needs, in bytes: a multiple of what is kept."""
    settings, model = experiment.train, experiment.model
    count = settings.batch_size // devices // settings.microbatches
    over = OVER_KEPT_BLOCKS if model.use_remat else OVER_KEPT
    itemsize = jnp.dtype(model.dtype).itemsize
    # In bfloat16 what is kept tells itself from float32 maps that are computed again.
    half = dataclasses.replace(model, dtype="bfloat16")
    one = dataclasses.replace(settings, batch_size=1, microbatches=1, fsdp=1)
    kept = _kept(dataclasses.replace(experiment, model=half, train=one))
    return round(over * count * kept * itemsize)


PROBE = 7
"""Images, a number that no axis of a parameter has."""


@functools.lru_cache(maxsize=16)
def _kept(experiment: Experiment) -> float:
    """Numbers in bfloat16 that automatic differentiation keeps of each image."""
    loss = objective.make_loss(experiment)

    def kept(params, frozen, images, keys):
        return jax.vjp(lambda p: loss(p, frozen, images, keys)[0], params)[1]

    params = jax.eval_shape(lambda: init_state(experiment)).params
    count = PROBE * experiment.distil.unit
    given = (params, frozen_shapes(experiment), _images(experiment, count))
    found = jax.tree.leaves(jax.eval_shape(kept, *given, _keys(count)))
    # Two samples of each image, where there is an energy score.
    rows = 2 * count if experiment.distil.kind == "energy" else count
    maps = [x for x in found if x.dtype == jnp.bfloat16 and x.shape[:1] == (rows,)]
    return sum(x.size for x in maps) / count


def _images(experiment: Experiment, count: int) -> jax.ShapeDtypeStruct:
    size = experiment.image_size
    shape = (count, size, size, experiment.channels)
    return jax.ShapeDtypeStruct(shape, np.uint8)


def _keys(count: int) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any, shardings: Any = None) -> int:
    """Of a tree; with shardings, of one device's shards."""
    leaves = jax.tree.leaves(tree)
    shapes = [leaf.shape for leaf in leaves]
    if shardings is not None:
        pairs = zip(shapes, jax.tree.leaves(shardings), strict=True)
        shapes = [sharding.shard_shape(shape) for shape, sharding in pairs]
    return sum(
        math.prod(shape) * leaf.dtype.itemsize
        for shape, leaf in zip(shapes, leaves, strict=True)
    )
