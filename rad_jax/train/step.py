"""One training step on all devices: gradient, update, average."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Int, UInt8

from rad_jax.config.experiment import Experiment
from rad_jax.errors import UserError
from rad_jax.models.apply import Params
from rad_jax.runtime.gathering import gather, specs_of
from rad_jax.runtime.sharding import (
    AXES,
    AnyMesh,
    everywhere,
    sum_over_devices,
    tree_shardings,
)
from rad_jax.train import objective
from rad_jax.train.state import Frozen, TrainState, init_state, make_optimizer
from rad_jax.train.totals import Totals
from rad_jax.typing import Scalar


class Batch(NamedTuple):
    """What the host gives to a step.

    Attributes:
      images: bytes, divided over the devices.
      stop: for each device whether its process was asked to stop.
    """

    images: UInt8[Array, "b h w c"]
    stop: Int[Array, " devices"]


class Signals(NamedTuple):
    """What a step tells the host.

    Attributes:
      finite: whether loss and gradient were; else the step changed nothing.
      stop: whether a process was asked to stop: all of them learn it in the same step.
    """

    finite: Bool[Array, ""]
    stop: Bool[Array, ""]


TrainStep = Callable[[TrainState, Frozen, Batch], tuple[TrainState, Signals]]
"""``step(state, frozen, batch)``; the state is donated."""


def make_gradient(experiment: Experiment, mesh: AnyMesh):
    """The gradient of a batch, on all devices: each takes its images.

    Returns:
      ``gradient(params, frozen, batch, keys) -> (gradient, its norm, totals, stop)``,
      the gradient clipped, the norm from before, all of them everywhere.

    Raises:
      UserError: the devices cannot share the batch equally.
    """
    check_batch(experiment, mesh.size)
    loss = objective.make_loss(experiment)
    parts, most = experiment.train.microbatches, experiment.optimizer.clip_norm

    def device(specs, params: Params, frozen: Frozen, batch: Batch, keys: Array):
        params, frozen = gather((params, frozen), specs)

        def part(images: Array, keys: Array):
            both = jax.value_and_grad(loss, has_aux=True)
            (_, totals), gradient = both(params, frozen, images, keys)
            return gradient, totals

        mine = _in_parts(part, parts, batch.images, keys)
        stop = batch.stop.astype(jnp.float32).sum()
        # The only sum of a step over all devices.
        gradient, totals, stop = sum_over_devices((*mine, stop), mesh)
        # Each device has the mean over its images, and all have equally many.
        gradient = jax.tree.map(lambda x: x / mesh.size, gradient)
        norm = optax.tree.norm(gradient)
        # Clipped here, where it is whole: the norm of its shards would be summed in
        # another order.
        return clip(gradient, norm, most), norm, totals, stop > 0

    one, all_axes = PartitionSpec(), PartitionSpec(AXES)

    def gradient(params: Params, frozen: Frozen, batch: Batch, keys: Array):
        specs = specs_of(tree_shardings((params, frozen), mesh))
        on_devices = jax.shard_map(
            functools.partial(device, specs),
            mesh=mesh,
            in_specs=(*specs, all_axes, all_axes),
            out_specs=one,
            check_vma=False,  # that the sum is the same everywhere cannot be inferred
        )
        return on_devices(params, frozen, batch, keys)

    return gradient


def clip(gradient: Any, norm: Scalar, most: float) -> Any:
    """A tree of this global norm, scaled down to `most` where it is longer."""
    return jax.tree.map(lambda x: jnp.where(norm < most, x, x / norm * most), gradient)


def _in_parts(function, parts: int, images: Array, keys: Array):
    """Mean gradient and summed totals of equal parts, one after the other."""
    if parts == 1:
        return function(images, keys)
    # The first part starts the sums: no zeros of every parameter's shape.
    stacked = [x.reshape(parts, -1, *x.shape[1:]) for x in (images, keys)]

    def add(sums, part):
        return jax.tree.map(jnp.add, sums, function(*part)), None

    first, rest = [x[0] for x in stacked], [x[1:] for x in stacked]
    (gradient, totals), _ = jax.lax.scan(add, function(*first), rest)
    return jax.tree.map(lambda x: x / parts, gradient), totals


def check_batch(experiment: Experiment, devices: int) -> None:
    """Refuses a batch that devices cannot share.

    Raises:
      UserError: naming both numbers.
    """
    settings, unit = experiment.train, batch_unit(experiment, devices)
    if settings.batch_size % unit:
        each = (
            f" in train.microbatches={settings.microbatches} parts"
            if settings.microbatches > 1
            else ""
        )
        if unit > devices * settings.microbatches:
            each += f" for paths of distil.points={experiment.distil.points}"
        raise UserError(
            f"train.batch_size is {settings.batch_size}, which {devices} devices "
            f"cannot share equally{each}; make it a multiple of {unit}"
        )


def batch_unit(experiment: Experiment, devices: int) -> int:
    """What a batch for so many devices is a multiple of."""
    return devices * experiment.train.microbatches * experiment.distil.unit


def make_train_step(experiment: Experiment, mesh: AnyMesh) -> TrainStep:
    """The step, compiled when called; its randomness is from the seed and the step.

    Raises:
      UserError: the devices of the mesh cannot share the batch equally.
    """
    gradient_of = make_gradient(experiment, mesh)
    optimizer = make_optimizer(experiment.optimizer, experiment.train.num_steps)
    noise_key = jax.random.fold_in(jax.random.key(experiment.seed), 1)
    shardings = state_shardings(experiment, mesh)

    def train_step(state: TrainState, frozen: Frozen, batch: Batch):
        key = jax.random.fold_in(noise_key, state.step)
        keys = jax.random.split(key, batch.images.shape[0])
        gradient, norm, found, stop = gradient_of(state.params, frozen, batch, keys)
        # Everything below is undone where loss or gradient is not finite.
        finite = jnp.isfinite(norm) & jnp.isfinite(found.sums["loss"])
        # Like the parameters: each device updates what it has of them.
        gradient = jax.lax.with_sharding_constraint(gradient, shardings.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # A small decay at first, so that the average forgets the random start.
        n = state.step.astype(jnp.float32)
        decay = jnp.minimum(experiment.optimizer.ema_decay, (1 + n) / (10 + n))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        new = (params, ema, opt_state)
        params, ema, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            new,
            (state.params, state.ema, state.opt_state),
        )
        # Totals restart after each line of the logs.
        fresh = state.step % experiment.train.log_every == 0
        totals = _added(state.totals, found, norm, finite, fresh)
        state = TrainState(state.step + 1, params, ema, opt_state, totals)
        return state, Signals(finite, stop)

    everyone: Any = everywhere(mesh)
    return jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=(shardings, Signals(everyone, everyone)),
    )


def _added(old: Totals, found: Totals, norm, finite, fresh) -> Totals:
    """Totals with those of a step; a non-finite step only counts as skipped."""
    one, skipped = jnp.float32(1), 1 - finite.astype(jnp.float32)
    sums = found.sums | {"grad_norm": norm}
    counts = found.counts | {"grad_norm": one}
    found = jax.tree.map(lambda x: jnp.where(finite, x, 0), Totals(sums, counts))
    found = Totals(found.sums | {"skipped": skipped}, found.counts | {"skipped": one})
    return jax.tree.map(lambda a, b: jnp.where(fresh, 0, a) + b, old, found)


def state_shardings(experiment: Experiment, mesh: AnyMesh) -> Any:
    """Of a TrainState: large parameters and what goes with them over "fsdp"."""
    return tree_shardings(jax.eval_shape(lambda: init_state(experiment)), mesh)
