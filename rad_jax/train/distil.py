"""What training for few evaluations minimises, in place of `objective`'s loss.

A student predicts the clean image at a few times, once from nothing but noise (T1);
between them its prediction is noised again. Only holes have noise, so phase 1 alone is
trained.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rad_jax.config.experiment import Experiment
from rad_jax.diffusion.conditioning import conditioning
from rad_jax.diffusion.denoise import make_denoise
from rad_jax.diffusion.options import OF_TEACHERS, SamplerConfig
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import (
    Step,
    levels_at,
    make_schedule,
    mask_to_hole_weight,
)
from rad_jax.masks.training import training_mask
from rad_jax.models.apply import Params
from rad_jax.models.lora import combine
from rad_jax.train.clean_images import clean_images
from rad_jax.train.distil_losses import make_batch_loss
from rad_jax.train.distil_task import Holes, Task
from rad_jax.train.state import Frozen
from rad_jax.train.totals import Totals, no_totals
from rad_jax.typing import Images, PRNGKeys, Scalar


def make_distil_loss(experiment: Experiment) -> Callable[..., tuple[Scalar, Totals]]:
    """``loss(params, frozen, images as bytes, keys)`` of `DistilConfig.kind`.

    Raises:
      UserError: the files of its features are not there.
    """
    model, mask = experiment.model, experiment.mask
    predicts = experiment.loss.parametrisation
    taught = OF_TEACHERS.get(predicts, predicts)
    schedule = make_schedule(experiment.schedule)
    student = make_denoise(model, schedule, experiment.lora)
    teacher = make_denoise(model, schedule)
    batch_loss, clean = make_batch_loss(experiment), clean_images(experiment)

    def network(denoise, params: Params, holes: Holes) -> Denoiser:
        # Binary masks are their own weights; of soft ones the maps are made of levels.
        masks, binary = holes.weight[..., 0], not mask.blur
        condition = conditioning(model, schedule, masks, holes.weight, binary=binary)

        def ask(x: Images, step: Step):
            return denoise(params, x, levels_at(step, holes.weight), condition(step))

        return ask

    def draw(key, image) -> Holes:
        mask_key, noise_key = jax.random.split(key)
        drawn = training_mask(mask, mask_key, *image.shape[:2])
        weight = mask_to_hole_weight(schedule, drawn) if mask.blur else drawn[..., None]
        return Holes(image, weight, noise_key)

    def loss(params: Params, frozen: Frozen, images: Array, keys: PRNGKeys):
        trained = combine(params, frozen.base)
        task = Task(
            functools.partial(network, student, trained),
            functools.partial(network, teacher, frozen.teacher),
            SamplerConfig(parametrisation=predicts),
            SamplerConfig("dpm++", parametrisation=taught),
        )
        losses = batch_loss(task, jax.vmap(draw)(keys, clean(frozen, images)))
        sums, counts = no_totals()
        found = Totals(
            sums | {"loss": jnp.sum(losses)},
            counts | {"loss": jnp.float32(len(losses))},
        )
        return jnp.mean(losses), found

    return loss


def stages(experiment: Experiment) -> list[tuple[int, Experiment]]:
    """The parts of a run, each with one loss and a learning rate of its own.

    Returns:
      For each the step before its first one, and the experiment of this part alone.
    """
    config = experiment.distil
    if not config.energy_steps:
        return [(0, experiment)]
    before = experiment.train.num_steps - config.energy_steps

    def part(count: int, rate: float, kind: str) -> Experiment:
        return dataclasses.replace(
            experiment,
            distil=dataclasses.replace(config, kind=kind, energy_steps=0),
            optimizer=dataclasses.replace(experiment.optimizer, learning_rate=rate),
            train=dataclasses.replace(experiment.train, num_steps=count),
        )

    return [
        (0, part(before, experiment.optimizer.learning_rate, config.kind)),
        (before, part(config.energy_steps, config.energy_learning_rate, "energy")),
    ]
