"""One training step: noise, masks and times drawn on device, loss, update, average."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Int, UInt8

from rad_jax.config import Experiment
from rad_jax.diffusion import gaussian
from rad_jax.diffusion.conditioning import conditioning
from rad_jax.diffusion.losses import hybrid_loss
from rad_jax.diffusion.schedule import Step, make_schedule, mask_to_hole_weight, steps
from rad_jax.errors import UserError
from rad_jax.files.pixel_ranges import to_float
from rad_jax.masks.training import training_mask
from rad_jax.models.apply import Apply, Params, make_apply
from rad_jax.models.lora import combine
from rad_jax.runtime.sharding import (
    AXES,
    AnyMesh,
    everywhere,
    sum_over_devices,
    tree_shardings,
)
from rad_jax.train.state import TrainState, init_state, make_optimizer
from rad_jax.train.totals import BUCKETS, Totals, bucket
from rad_jax.typing import Images, PRNGKeys, Scalar


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
      finite: whether loss and gradient were; if not, the step changed nothing.
      stop: whether a process was asked to stop: all of them learn it in the same step.
    """

    finite: Bool[Array, ""]
    stop: Bool[Array, ""]


TrainStep = Callable[[TrainState, Params, Batch], tuple[TrainState, Signals]]
"""``step(state, frozen, batch)``; the state is donated."""


def batch_loss(
    apply: Apply,
    experiment: Experiment,
    unit_steps: Step,
    params: Params,
    images: Images,
    keys: PRNGKeys,
) -> tuple[Scalar, Totals]:
    """Mean hybrid loss of a batch at random times under random masks (RAD Sec. 3).

    Each image gets its own mask, time in 1 .. T and noise, all from its own key.

    Args:
      apply: the network.
      experiment: its loss, mask, schedule and model blocks are used.
      unit_steps: the steps t -> t - 1 for t = 1 .. T, stacked.
      params: the network's.
      images: in [-1, 1].
      keys: one for each image.

    Returns:
      The loss, and sums of it and its parts over the images.
    """
    height, width = images.shape[1:3]
    num_steps = unit_steps.time.shape[0]

    def draw(key):
        time_key, mask_key, noise_key, dropout_key = jax.random.split(key, 4)
        t = jax.random.randint(time_key, (), 0, num_steps)
        mask = training_mask(experiment.mask, mask_key, height, width)
        noise = jax.random.normal(noise_key, images.shape[1:])
        return jax.tree.map(lambda x: x[t], unit_steps), mask, noise, dropout_key

    step, masks, noise, dropout_keys = jax.vmap(draw)(keys)
    binary, schedule = not experiment.mask.blur, make_schedule(experiment.schedule)
    hole_weight = masks[..., None]  # of a binary mask
    if not binary:
        hole_weight = jax.vmap(functools.partial(mask_to_hole_weight, schedule))(masks)

    def noisy(x0, hole_weight, step, noise):
        levels = gaussian.pixel_levels(step, hole_weight)
        return gaussian.forward_marginal(x0, levels.t, noise)

    x_t = jax.vmap(noisy)(images, hole_weight, step, noise)
    condition = conditioning(
        experiment.model, schedule, masks, hole_weight, binary=binary
    )
    output = apply(
        params,
        x_t,
        condition(step),
        dropout_keys=dropout_keys if experiment.model.dropout else None,
    )
    loss = functools.partial(hybrid_loss, experiment.loss)
    losses, parts = jax.vmap(loss)(output, images, noise, x_t, step, hole_weight)
    buckets = jax.nn.one_hot(bucket(step, experiment.schedule.hole_steps), len(BUCKETS))
    sums = {name: jnp.sum(part) for name, part in {"loss": losses, **parts}.items()}
    counts = {name: jnp.float32(len(losses)) for name in sums}
    in_buckets, counts_in_buckets = losses @ buckets, jnp.sum(buckets, 0)
    sums |= {name: in_buckets[i] for i, name in enumerate(BUCKETS)}
    counts |= {name: counts_in_buckets[i] for i, name in enumerate(BUCKETS)}
    return jnp.mean(losses), Totals(sums, counts)


def make_loss(experiment: Experiment) -> Callable[..., tuple[Scalar, Totals]]:
    """``loss(params, frozen, images as bytes, keys)``, see ``batch_loss``."""
    apply = make_apply(experiment.model, experiment.lora)
    schedule = make_schedule(experiment.schedule)
    times = np.arange(1, schedule.num_steps + 1)
    unit_steps = steps(schedule, times, times - 1)

    def loss(params: Params, frozen: Params, images: Array, keys: PRNGKeys):
        table, whole = jax.tree.map(jnp.asarray, unit_steps), combine(params, frozen)
        return batch_loss(apply, experiment, table, whole, to_float(images), keys)

    return loss


def make_gradient(experiment: Experiment, mesh: AnyMesh):
    """The gradient of a batch, on all devices: each takes its images.

    Returns:
      ``gradient(params, frozen, batch, keys) -> (gradient, its norm, totals, stop)``,
      the gradient clipped, the norm from before, all of them everywhere.

    Raises:
      UserError: the devices cannot share the batch equally.
    """
    check_batch(experiment, mesh.size)
    loss = make_loss(experiment)
    parts, most = experiment.train.microbatches, experiment.optimizer.clip_norm

    def device(params: Params, frozen: Params, batch: Batch, keys: Array):
        def part(images: Array, keys: Array):
            both = jax.value_and_grad(loss, has_aux=True)
            (_, totals), gradient = both(params, frozen, images, keys)
            return gradient, totals

        mine = _in_parts(part, parts, batch.images, keys)
        stop = batch.stop.astype(jnp.float32).sum()
        # The one sum over all devices of a step.
        gradient, totals, stop = sum_over_devices((*mine, stop), mesh)
        gradient = jax.tree.map(lambda x: x / mesh.size, gradient)
        norm = optax.tree.norm(gradient)
        # Clipped here, where it is whole: the norm of its shards would be summed in
        # another order.
        return clip(gradient, norm, most), norm, totals, stop > 0

    one, all_axes = PartitionSpec(), PartitionSpec(AXES)
    return jax.shard_map(
        device,
        mesh=mesh,
        in_specs=(one, one, all_axes, all_axes),
        out_specs=one,
        check_vma=False,  # that the sum is the same everywhere cannot be inferred
    )


def clip(gradient: Any, norm: Scalar, most: float) -> Any:
    """A tree of this global norm, scaled down to `most` where it is longer."""
    return jax.tree.map(lambda x: jnp.where(norm < most, x, x / norm * most), gradient)


def _in_parts(function, parts: int, images: Array, keys: Array):
    """Mean gradient and summed totals of equal parts, one after the other."""
    if parts == 1:
        return function(images, keys)
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
    settings = experiment.train
    if settings.batch_size % (devices * settings.microbatches):
        each = (
            f" in train.microbatches={settings.microbatches} parts"
            if settings.microbatches > 1
            else ""
        )
        raise UserError(
            f"train.batch_size is {settings.batch_size}, which {devices} devices "
            f"cannot share equally{each}; make it a multiple of "
            f"{devices * settings.microbatches}"
        )


def make_train_step(experiment: Experiment, mesh: AnyMesh) -> TrainStep:
    """The step, compiled when called; its randomness is from the seed and the step.

    Raises:
      UserError: the devices of the mesh cannot share the batch equally.
    """
    gradient_of = make_gradient(experiment, mesh)
    optimizer = make_optimizer(experiment.optimizer, experiment.train.num_steps)
    noise_key = jax.random.fold_in(jax.random.key(experiment.seed), 1)
    shardings = state_shardings(experiment, mesh)

    def train_step(state: TrainState, frozen: Params, batch: Batch):
        key = jax.random.fold_in(noise_key, state.step)
        keys = jax.random.split(key, batch.images.shape[0])
        gradient, norm, found, stop = gradient_of(state.params, frozen, batch, keys)
        finite = jnp.isfinite(norm) & jnp.isfinite(found.sums["loss"])
        # Like the parameters: each device updates what it has of them.
        gradient = jax.lax.with_sharding_constraint(gradient, shardings.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        n = state.step.astype(jnp.float32)
        decay = jnp.minimum(experiment.optimizer.ema_decay, (1 + n) / (10 + n))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        new = (params, ema, opt_state)
        params, ema, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            new,
            (state.params, state.ema, state.opt_state),
        )
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
    """Totals with those of a step; a step that was not finite only counts as such."""
    one, skipped = jnp.float32(1), 1 - finite.astype(jnp.float32)
    sums = found.sums | {"grad_norm": norm}
    counts = found.counts | {"grad_norm": one}
    found = jax.tree.map(lambda x: jnp.where(finite, x, 0), Totals(sums, counts))
    found = Totals(found.sums | {"skipped": skipped}, found.counts | {"skipped": one})
    return jax.tree.map(lambda a, b: jnp.where(fresh, 0, a) + b, old, found)


def state_shardings(experiment: Experiment, mesh: AnyMesh) -> Any:
    """Of a TrainState: large parameters and what goes with them over "fsdp"."""
    return tree_shardings(jax.eval_shape(lambda: init_state(experiment)), mesh)
