"""The sampler that was asked for, with what fits the model."""

import dataclasses

from rad_jax.checkpoints.model import Model
from rad_jax.diffusion.options import SamplerConfig, Sampling
from rad_jax.errors import UserError


def sampler_config(model: Model, options: Sampling) -> SamplerConfig:
    """The sampler that was chosen, with what fits the model.

    Raises:
      UserError: it needs a learned variance, which the model has not.
    """
    if isinstance(options.sampler, str):
        return default_sampler(model, options.sampler, options.eta, options.snr)
    if options.sampler.variance == "learned" and not model.config.learn_sigma:
        raise UserError("the model has no learned variance; use variance 'small'")
    # Latents have no range.
    clip = options.sampler.clip and model.codec is None
    return dataclasses.replace(options.sampler, clip=clip)


def default_sampler(
    model: Model,
    method: str = "ddpm",
    eta: float = 0.0,
    snr: float = SamplerConfig.snr,
) -> SamplerConfig:
    """The sampler that fits a model's outputs."""
    variance = "learned" if model.config.learn_sigma else "small"
    clip = model.codec is None  # latents have no range
    return SamplerConfig(method, eta, variance, model.parametrisation, clip, snr)
