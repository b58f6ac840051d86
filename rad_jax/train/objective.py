"""What training minimises: the hybrid loss at random times under random masks."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rad_jax.config.experiment import Experiment
from rad_jax.diffusion import gaussian
from rad_jax.diffusion.conditioning import conditioning
from rad_jax.diffusion.denoise import Denoise, make_denoise
from rad_jax.diffusion.losses import LossConfig, hybrid_loss
from rad_jax.diffusion.schedule import (
    Schedule,
    Step,
    levels_at,
    make_schedule,
    mask_to_hole_weight,
    step_at,
    unit_steps,
)
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.masks.training import MaskConfig, training_mask
from rad_jax.models.apply import Params
from rad_jax.models.lora import combine
from rad_jax.models.network import NetworkConfig
from rad_jax.train.clean_images import clean_images
from rad_jax.train.distil import make_distil_loss
from rad_jax.train.state import Frozen
from rad_jax.train.totals import BUCKETS, Totals, bucket
from rad_jax.typing import Images, PRNGKey, PRNGKeys, Scalar


def any_step(schedule: Schedule) -> Callable[[PRNGKey], Step]:
    """``draw(key)``: a unit step of the schedule, each as likely."""
    table = unit_steps(schedule)

    def draw(key: PRNGKey) -> Step:
        t = jax.random.randint(key, (), 0, schedule.num_steps)
        return jax.tree.map(lambda x: x[t], table)

    return draw


def continuous_time(schedule: Schedule) -> Callable[[PRNGKey], Step]:
    """``draw(key)``: a time of a continuous process, all as likely (`step_at`)."""

    def draw(key: PRNGKey) -> Step:
        # Of (0, 1], not [0, 1): there is nothing to learn at no noise.
        share = 1 - jax.random.uniform(key)
        return step_at(schedule, share * schedule.num_steps)

    return draw


def batch_loss(
    denoise: Denoise,
    params: Params,
    images: Images,
    keys: PRNGKeys,
    *,
    model: NetworkConfig,
    schedule: ScheduleConfig,
    mask: MaskConfig,
    loss: LossConfig,
) -> tuple[Scalar, Totals]:
    """Mean hybrid loss of a batch at random times under random masks (RAD Sec. 3).

    Each image gets its own mask, time in 1 .. T and noise, all from its own key.

    Args:
      denoise: the network.
      params: the network's.
      images: in [-1, 1].
      keys: one for each image.
      model: the network's architecture.
      schedule: the noise.
      mask: how masks are drawn.
      loss: its weights, and what the network predicts.

    Returns:
      The loss, and sums of it and its parts over the images.
    """
    height, width = images.shape[1:3]
    tables = make_schedule(schedule)
    draw_step = continuous_time(tables) if schedule.is_continuous else any_step(tables)

    # 1. A time, a mask and noise for each image.
    def draw(key):
        time_key, mask_key, noise_key, dropout_key = jax.random.split(key, 4)
        step = draw_step(time_key)
        drawn = training_mask(mask, mask_key, height, width)
        noise = jax.random.normal(noise_key, images.shape[1:])
        return step, drawn, noise, dropout_key

    step, masks, noise, dropout_keys = jax.vmap(draw)(keys)

    # 2. The noisy images. A binary mask is its own hole weight: no logarithms then.
    binary, hole_weight = not mask.blur, masks[..., None]
    if not binary:
        hole_weight = jax.vmap(functools.partial(mask_to_hole_weight, tables))(masks)

    def noisy(x0, hole_weight, step, noise):
        levels = gaussian.pixel_levels(step, hole_weight)
        return gaussian.forward_marginal(x0, levels.t, noise)

    x_t = jax.vmap(noisy)(images, hole_weight, step, noise)

    # 3. The network's output.
    condition = conditioning(model, tables, masks, hole_weight, binary=binary)
    output = denoise(
        params,
        x_t,
        levels_at(step, hole_weight),
        condition(step),
        dropout_keys=dropout_keys if model.dropout else None,
    )

    # 4. The loss of each image, and sums by name and by time for the logs.
    one_loss = functools.partial(hybrid_loss, loss)
    losses, parts = jax.vmap(one_loss)(output, images, noise, x_t, step, hole_weight)
    buckets = jax.nn.one_hot(bucket(step, tables), len(BUCKETS))
    sums = {name: jnp.sum(part) for name, part in {"loss": losses, **parts}.items()}
    counts = {name: jnp.float32(len(losses)) for name in sums}
    in_buckets, counts_in_buckets = losses @ buckets, jnp.sum(buckets, 0)
    sums |= {name: in_buckets[i] for i, name in enumerate(BUCKETS)}
    counts |= {name: counts_in_buckets[i] for i, name in enumerate(BUCKETS)}
    return jnp.mean(losses), Totals(sums, counts)


def make_loss(experiment: Experiment) -> Callable[..., tuple[Scalar, Totals]]:
    """``loss(params, frozen, images as bytes, keys)``: `batch_loss`, or of `distil`.

    Raises:
      UserError: as ``make_distil_loss``.
    """
    if experiment.distil.kind:
        return make_distil_loss(experiment)
    one_batch = functools.partial(
        batch_loss,
        make_denoise(
            experiment.model, make_schedule(experiment.schedule), experiment.lora
        ),
        model=experiment.model,
        schedule=experiment.schedule,
        mask=experiment.mask,
        loss=experiment.loss,
    )

    clean = clean_images(experiment)

    def loss(params: Params, frozen: Frozen, images: Array, keys: PRNGKeys):
        return one_batch(combine(params, frozen.base), clean(frozen, images), keys)

    return loss
