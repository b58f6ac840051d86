"""One step of the reverse process, of one image, by any method (`options.METHODS`)."""

import jax.numpy as jnp

from rad_jax.diffusion import gaussian, sde
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.schedule import Step, log_level
from rad_jax.typing import Image, LogLevel, Output


def clean_image(
    config: SamplerConfig, level: LogLevel, x: Image, output: Output
) -> Image:
    """The clean image that the network predicts at a level, clipped if it should be."""
    prediction = output[..., : x.shape[-1]]
    x0 = gaussian.predict_x0(x, prediction, level, config.parametrisation)
    return jnp.where(level < 0, jnp.clip(x0, -1.0, 1.0), x0) if config.clip else x0


def reverse_step(
    config: SamplerConfig,
    step: Step,
    hole_weight: LogLevel,
    x_t: Image,
    output: Output,
    previous_x0: Image,
    noise: Image,
) -> tuple[Image, Image]:
    """One reverse step of one image (vmapped by ``sample``).

    Args:
      config: the method.
      step: the times, as data.
      hole_weight: of the mask (``schedule.mask_to_hole_weight``).
      x_t: the image at t, (h, w, c).
      output: the network's, (h, w, c) or (h, w, 2c).
      previous_x0: clean image predicted in the step before.
      noise: standard normal, as x_t.

    Returns:
      x_s and the predicted clean image; of "heun" what `second_order` begins with.
    """
    levels = gaussian.pixel_levels(step, hole_weight)
    x0 = clean_image(config, levels.t, x_t, output)
    if config.method in ("ddim", "heun"):
        return gaussian.ddim_step(x_t, x0, levels, config.eta, noise), x0
    if config.method == "dpm++":
        previous = log_level(step.previous, hole_weight)
        x_s = gaussian.dpm_solver_step(x_t, x0, previous_x0, levels, previous)
        return x_s, x0
    if config.method == "renoise":
        return gaussian.renoise_step(x_t, x0, levels, noise), x0
    if config.method == "euler_maruyama":
        return sde.euler_maruyama_step(x_t, x0, levels, noise), x0
    if config.method in ("reverse_diffusion", "pc"):
        return sde.reverse_diffusion_step(x_t, x0, levels, noise), x0
    if config.variance == "learned":
        log_variance = gaussian.learned_log_variance(
            output[..., x_t.shape[-1] :], levels, step.variance_floor
        )
    else:
        small, large = gaussian.log_variance_range(levels, step.variance_floor)
        log_variance = small if config.variance == "small" else large
    return gaussian.ancestral_step(x_t, x0, levels, log_variance, noise), x0


def corrected(
    config: SamplerConfig,
    step: Step,
    hole_weight: LogLevel,
    x_t: Image,
    output: Output,
    noise: Image,
) -> Image:
    """The image at t after a Langevin step at its levels, before its reverse step."""
    level = log_level(step.t, hole_weight)
    x0 = clean_image(config, level, x_t, output)
    return sde.langevin_step(x_t, x0, level, config.snr, noise)


def second_order(
    config: SamplerConfig,
    step: Step,
    hole_weight: LogLevel,
    x_t: Image,
    x0: Image,
    x_s: Image,
    output: Output,
) -> Image:
    """The step of "heun", which has been at x_s and asked the network there."""
    levels = gaussian.pixel_levels(step, hole_weight)
    there = clean_image(config, levels.s, x_s, output)
    return sde.heun_step(x_t, x0, x_s, there, levels)


def at_arrival(step: Step) -> Step:
    """The levels at s, as the network is told those at t."""
    return step._replace(t=step.s, timesteps=step.s_timesteps, time=step.s_time)
