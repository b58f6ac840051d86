"""What training changes, and the optimiser that changes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from rad_jax.config.blocks import OptimizerConfig
from rad_jax.config.experiment import Experiment
from rad_jax.models.apply import Params, init_params
from rad_jax.models.lora import combine, draw_adapters, partition
from rad_jax.train.totals import Totals, no_totals


class TrainState(NamedTuple):
    """A pytree.

    Attributes:
      step: optimiser steps done.
      params: those of the network that train, float32.
      ema: their average, float32; what samples are made with.
      opt_state: the optimiser's.
      totals: what has been measured since the last line of the logs.
    """

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt_state: Any
    totals: Totals


class Frozen(NamedTuple):
    """Parameters that a step needs and does not change.

    Attributes:
      base: those of the network that do not train, with adapters.
      teacher: of the network that it is distilled from.
      codec: of the autoencoder whose latents it denoises.
    """

    base: Params
    teacher: Params
    codec: Params


NOTHING_FROZEN = Frozen({}, {}, {})


def make_optimizer(
    config: OptimizerConfig, num_steps: int
) -> optax.GradientTransformation:
    """AdamW under the learning rate's schedule; the step has clipped its gradient."""
    warmup, peak = config.warmup_steps, config.learning_rate
    if config.decay == "cosine":
        decay = optax.cosine_decay_schedule(peak, max(num_steps - warmup, 1))
    else:
        decay = optax.constant_schedule(peak)
    # The first step takes 1 / warmup of the peak, not nothing.
    rising = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
    rate = optax.join_schedules([rising, decay], [warmup])
    return optax.adamw(rate, weight_decay=config.weight_decay)


def init_state(experiment: Experiment, pretrained: Params | None = None) -> TrainState:
    """The state before the first step, from the experiment's seed.

    Args:
      experiment: what to train.
      pretrained: parameters to start from, as `UNet`'s. Of those that are frozen the
        state has none: see `checkpoints.load.read_frozen`.
    """
    key = jax.random.fold_in(jax.random.key(experiment.seed), 0)
    params = pretrained or init_params(experiment.model, key)
    if experiment.lora.rank:
        adapters = draw_adapters(experiment.model, experiment.lora, key)
        params = combine(adapters, params)
        params, _ = partition(experiment.model, experiment.lora, params)
    optimizer = make_optimizer(experiment.optimizer, experiment.train.num_steps)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        totals=no_totals(),
    )


def restarted(experiment: Experiment, state: TrainState) -> TrainState:
    """The state before another part of a run: its average, with a new optimiser."""
    optimizer = make_optimizer(experiment.optimizer, experiment.train.num_steps)

    def restart(state: TrainState) -> TrainState:
        params = jax.tree.map(jnp.copy, state.ema)
        return state._replace(params=params, opt_state=optimizer.init(params))

    shardings = jax.tree.map(lambda x: x.sharding, state)
    return jax.jit(restart, out_shardings=shardings)(state)
