"""One training step: noise, masks and times drawn on device, loss, update, average."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rad_jax import diffusion
from rad_jax.config import Experiment
from rad_jax.data.ranges import to_float
from rad_jax.losses import hybrid_loss
from rad_jax.masks import training_mask
from rad_jax.models.apply import Apply, Params, make_apply
from rad_jax.models.lora import combine
from rad_jax.models.noise_embedding import NoiseLevels, membership
from rad_jax.schedule import Step, make_schedule, steps
from rad_jax.train.state import TrainState, make_optimizer
from rad_jax.typing import Images, PRNGKey, Scalar

Metrics = dict[str, Scalar]

TrainStep = Callable[[TrainState, Params, jax.Array], tuple[TrainState, Metrics]]
"""``step(state, frozen, images uint8 (b, h, w, c))``; the state is donated."""


def batch_loss(
    apply: Apply,
    experiment: Experiment,
    unit_steps: Step,
    params: Params,
    images: Images,
    key: PRNGKey,
) -> tuple[Scalar, Metrics]:
    """Mean hybrid loss of a batch at random times under random masks (RAD Sec. 3).

    Each image gets its own mask, time in 1 .. T and noise, all from its own key.

    Args:
      apply: the network.
      experiment: its loss, mask and model blocks are used.
      unit_steps: the steps t -> t - 1 for t = 1 .. T, stacked.
      params: the network's.
      images: in [-1, 1].
      key: of this training step.

    Returns:
      The loss, and means of its parts.
    """
    height, width = images.shape[1:3]
    num_steps = unit_steps.time.shape[0]

    def draw(key):
        time_key, mask_key, noise_key, dropout_key = jax.random.split(key, 4)
        t = jax.random.randint(time_key, (), 0, num_steps)
        mask = training_mask(experiment.mask, mask_key, height, width)
        noise = jax.random.normal(noise_key, images.shape[1:])
        return jax.tree.map(lambda x: x[t], unit_steps), mask, noise, dropout_key

    keys = jax.random.split(key, images.shape[0])
    step, masks, noise, dropout_keys = jax.vmap(draw)(keys)
    share = masks[..., None]  # of a binary mask

    def noisy(x0, share, step, noise):
        levels = diffusion.pixel_levels(step, share)
        return diffusion.forward_marginal(x0, levels.t, noise)

    x_t = jax.vmap(noisy)(images, share, step, noise)
    weights = membership(masks, experiment.model.num_resolutions)
    dropout_key = dropout_keys[0] if experiment.model.dropout else None
    output = apply(
        params, x_t, NoiseLevels(step.timesteps, weights), dropout_key=dropout_key
    )
    loss = functools.partial(hybrid_loss, experiment.loss)
    losses, parts = jax.vmap(loss)(output, images, noise, x_t, step, share)
    return jnp.mean(losses), jax.tree.map(jnp.mean, parts)


def make_train_step(experiment: Experiment) -> TrainStep:
    """Compiles the step; its randomness comes from the seed and the step alone."""
    apply = make_apply(experiment.model, experiment.lora)
    schedule = make_schedule(experiment.schedule)
    times = np.arange(1, schedule.num_steps + 1)
    unit_steps = jax.tree.map(jnp.asarray, steps(schedule, times, times - 1))
    optimizer = make_optimizer(experiment.optimizer, experiment.train.num_steps)
    noise_key = jax.random.fold_in(jax.random.key(experiment.seed), 1)

    def train_step(state: TrainState, frozen: Params, pixels: jax.Array):
        key = jax.random.fold_in(noise_key, state.step)

        def loss(params: Params):
            images, whole = to_float(pixels), combine(params, frozen)
            return batch_loss(apply, experiment, unit_steps, whole, images, key)

        (value, parts), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        n = state.step.astype(jnp.float32)
        decay = jnp.minimum(experiment.optimizer.ema_decay, (1 + n) / (10 + n))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        metrics = {"loss": value, **parts, "grad_norm": optax.tree.norm(gradient)}
        return TrainState(state.step + 1, params, ema, opt_state), metrics

    return jax.jit(train_step, donate_argnums=0)
