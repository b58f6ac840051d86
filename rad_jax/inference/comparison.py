"""Filling holes by the methods that RAD is compared with, on a plain ADM."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.baselines import methods
from rad_jax.baselines.chain import Filled, noise_from
from rad_jax.baselines.choice import Baseline
from rad_jax.baselines.mcg import MCG
from rad_jax.baselines.methods import Settings
from rad_jax.checkpoints.model import (
    AnyModel,
    Model,
    batch_labels,
    check_labels,
    require_diffusion,
    require_inpainting,
)
from rad_jax.diffusion import gaussian
from rad_jax.diffusion.denoise import make_denoise
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Step, levels_at, make_schedule
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.inference.results import NON_FINITE
from rad_jax.models.apply import make_rounding
from rad_jax.models.network import NetworkConfig
from rad_jax.models.noise_embedding import NoiseLevels
from rad_jax.runtime.cpu_convolutions import convolution_options
from rad_jax.runtime.memory import Call
from rad_jax.runtime.sharding import on_all_devices
from rad_jax.typing import Images, Labels, Masks, Outputs, PRNGKeys


def prepare_baseline(model: AnyModel, baseline: Baseline) -> Callable[..., Call]:
    """`inpaint.prepare_fill` of a comparison method.

    Args:
      model: from ``load``, a plain ADM.
      baseline: the method.

    Returns:
      ``prepare(images, masks, keys, labels=None)``: a call which gives a `Filled`.

    Raises:
      UserError: the model is no plain ADM, or has no learned variance where the method
        takes it, or the settings cannot be; ``prepare`` raises it where labels or masks
        do not fit.
    """
    model = require_plain(model, baseline.method)
    settings = resolved(model, baseline)
    run = compiled_baseline(
        model.config, model.schedule, settings, model.parametrisation
    )

    def prepare(
        images: Images, masks: Masks, keys: PRNGKeys, labels: Labels | None = None
    ) -> Call:
        methods.require_mask(baseline.method, np.asarray(masks))
        labels = batch_labels(model.config, len(images), labels, baseline.label)
        batch, params = on_all_devices((images, masks, keys, labels), model.params)
        return Call(run, (params, *batch), len(images))

    return prepare


def require_plain(model: AnyModel, method: str) -> Model:
    """The model, if it is an ADM that was told one noise level for the whole image.

    Raises:
      UserError: it is none.
    """
    model = require_diffusion(model, f"method {method}")
    if model.codec:
        raise UserError(
            f"method {method} is of pixels, and this model denoises latents; give one "
            "in pixels"
        )
    if not is_plain(model):
        raise UserError(
            f"method {method} needs a plain ADM, such as RAD is trained from, and this "
            f"model is told the noise of every pixel (schedule.known_steps is "
            f"{model.schedule.known_steps}, not 0); give the plain one, or convert it "
            "again if an earlier version of rad_jax has converted it"
        )
    return model


def cfg_1_note(model: Model) -> str | None:
    """What to know of RAD's steps on a model, if it may be a plain ADM.

    Only its schedule tells, and RAD can be trained with phase 1 alone.
    """
    if not is_plain(model):
        return None
    told = ", if it is told one timestep (evaluate --noise_embedding time)"
    return (
        "the schedule has no phase 2, as a plain ADM's: RAD's steps on one are Cfg. 1 "
        f"of the paper's Table 3{'' if is_cfg_1(model) else told}"
    )


def is_cfg_1(model: Model) -> bool:
    """Whether RAD's steps on a model are Cfg. 1: a plain ADM, told one timestep."""
    return is_plain(model) and model.config.noise_embedding == "time"


def is_plain(model: Model) -> bool:
    """Whether a model knows DDPM's noise alone: there is no phase 2."""
    return model.schedule.known_steps == 0


def how(model: Model, baseline: Baseline) -> str:
    """The method and all its settings in one line, as files and tables say it.

    Raises:
      UserError: as `resolved`.
    """
    settings = methods.described(resolved(model, baseline))
    return f"{baseline.method} ({baseline.preset}): {settings}"


def non_finite_help(method: str) -> str:
    """What to do where a method's results are no numbers."""
    if method == "mcg":
        return (
            "mcg's steps along the gradient may be too long: --set step_size=0.3, or "
            "compute in float32 (--dtype float32)"
        )
    return NON_FINITE


def resolved(model: Model, baseline: Baseline) -> Settings:
    """The settings that are meant, with a model that can take them.

    Raises:
      UserError: they cannot be, or the model cannot inpaint or has no learned variance.
    """
    if baseline.label is not None:
        check_labels(model.config, np.array([baseline.label]))
    require_inpainting(model.config)
    settings = methods.settings_of(baseline, make_schedule(model.schedule))
    learned = getattr(settings, "variance", None) == "learned"
    if learned and not model.config.learn_sigma:
        raise UserError(
            "the model has no learned variance; use the setting variance=small"
        )
    return settings


@functools.cache
def compiled_baseline(
    config: NetworkConfig,
    schedule_config: ScheduleConfig,
    settings: Settings,
    parametrisation: str,
) -> Callable[..., Filled]:
    """``fill(params, images, masks, keys, labels)``: a method as one compiled program.

    The network is told one timestep for the whole image, whatever its config says.
    """
    if isinstance(settings, MCG):  # or its gradient takes as much memory as training
        config = dataclasses.replace(config, use_remat=True)
    schedule, rounded = make_schedule(schedule_config), make_rounding(config)
    predict = make_denoise(config, schedule)

    def denoiser(params: Any, labels: Labels | None) -> Denoiser:
        params = rounded(params)

        def denoise(x: Images, step: Step) -> Outputs:
            timesteps = jnp.broadcast_to(step.timesteps[..., 1:], (len(x), 1))
            # DeqIR's images of one chain are one after the other.
            seen = None if labels is None else jnp.repeat(labels, len(x) // len(labels))
            # DeqIR's steps are of several times.
            level = levels_at(step, jnp.ones((*x.shape[:3], 1)))
            output = predict(params, x, level, NoiseLevels(timesteps), seen)
            if parametrisation == "eps":
                return output
            predicted, variance = jnp.split(output, [x.shape[-1]], axis=-1)
            noise = jax.vmap(
                lambda x, p, level: gaussian.predict_noise(x, p, level, parametrisation)
            )(x, predicted, level)
            return jnp.concatenate([noise, variance], axis=-1)

        return denoise

    def fill(params, images, masks, keys, labels) -> Filled:
        return methods.fill(
            denoiser(params, labels),
            schedule,
            settings,
            images,
            masks,
            noise_from(keys, images.shape[1:]),
        )

    def one_by_one(params, *batch) -> Filled:
        def alone(*one) -> Filled:
            return jax.tree.map(
                lambda x: x[0], fill(params, *jax.tree.map(lambda x: x[None], one))
            )

        return jax.vmap(alone)(*batch)

    couples = isinstance(settings, MCG) and settings.norm == "batch"
    options = convolution_options(config.model_channels)
    return jax.jit(one_by_one if couples else fill, compiler_options=options)
