"""Whole images from noise with a trained or converted ADM: arrays in, arrays out.

All pixels have one noise level, that of a hole pixel in phase 1, which is plain DDPM:
the network is conditioned on it as ADM's is (K = 1 of (M2)).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rad_jax.checkpoints.model import Model, check_labels, program_params
from rad_jax.diffusion import sampling
from rad_jax.diffusion.denoise import make_denoise
from rad_jax.diffusion.generation_options import GenerationOptions
from rad_jax.diffusion.latents import decode
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.respacing import respaced_grid
from rad_jax.diffusion.schedule import Step, levels_at, make_schedule
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models.apply import make_rounding
from rad_jax.models.autoencoder_config import AutoencoderConfig
from rad_jax.models.network import NetworkConfig
from rad_jax.models.noise_embedding import NoiseLevels
from rad_jax.runtime.cpu_convolutions import convolution_options
from rad_jax.runtime.memory import Call
from rad_jax.runtime.sharding import on_all_devices
from rad_jax.typing import Images, Labels, PRNGKeys


def generate(
    model: Model,
    keys: PRNGKeys,
    *,
    labels: Int[Array, " n"] | None = None,
    low_res: Float[Array, "n h w c"] | None = None,
    respacing: str = GenerationOptions.respacing,
    sampler: SamplerConfig | None = None,
) -> Float[Array, "b _ _ c"]:
    """Draws images of the size that the model was trained on.

    Args:
      model: from ``load``.
      keys: a key for each image.
      labels: classes (b,), exactly if the model has classes.
      low_res: what to enlarge, (b, k, k, c) in [-1, 1], exactly if the model is an
        upsampler.
      respacing: which timesteps, as guided-diffusion writes it (``respacing``).
      sampler: the method; by default guided-diffusion's, ``adm_sampler``.

    Returns:
      (b, h, w, c), in [-1, 1] where the sampler clips and a little beyond else.

    Raises:
      UserError: labels, low_res or options do not fit the model.
    """
    prepare = prepare_generate(model, respacing, sampler or adm_sampler(model))
    return prepare(keys, labels, low_res)()


def prepare_generate(
    model: Model, respacing: str, sampler: SamplerConfig
) -> Callable[..., Call]:
    """``generate`` with a model and options; what depends on them alone is made once.

    Returns:
      ``prepare(keys, labels, low_res)``, arguments as of ``generate``: a call whose
      arrays are on the devices and which computes nothing yet.

    Raises:
      UserError: the options do not fit the model; ``prepare`` raises it where arrays
        do not.
    """
    config = model.config
    learned = (sampler.method, sampler.variance) == ("ddpm", "learned")
    if learned and not config.learn_sigma:
        raise UserError("the model has no learned variance; use variance 'large'")
    if model.text:
        raise UserError(
            "the model is told texts, by which only holes are filled yet; use inpaint"
        )
    grid = respaced_grid(model.schedule.hole_steps, respacing)
    schedule = make_schedule(model.schedule)
    stack = sampling.grid_steps(schedule, grid, bucket=sampling.STEP_BUCKET)
    codec = model.codec.config if model.codec else None
    run = compiled_generate(config, model.schedule, sampler, codec)

    def prepare(
        keys: PRNGKeys,
        labels: Int[Array, " n"] | None,
        low_res: Float[Array, "n h w c"] | None,
    ) -> Call:
        _check(config, labels, low_res)
        for name, given in (("labels", labels), ("low_res", low_res)):
            if given is not None and len(given) != len(keys):
                raise UserError(f"{name} has {len(given)} entries for {len(keys)} keys")
        if low_res is not None:
            low_res = enlarge(low_res, config.image_size)
        arrays = (keys, labels, low_res)
        batch, params = on_all_devices(arrays, program_params(model))
        return Call(run, (params, stack, *batch), len(keys))

    return prepare


def adm_sampler(model: Model, method: str = "ddpm", eta: float = 0.0) -> SamplerConfig:
    """guided-diffusion's sampler: learned variance, or without it the large one."""
    variance = "learned" if model.config.learn_sigma else "large"
    clip = model.codec is None  # latents have no range
    return SamplerConfig(method, eta, variance, model.parametrisation, clip)


def _check(
    config: NetworkConfig, labels: Labels | None, low_res: Images | None
) -> None:
    """Refuses arrays that do not fit the model."""
    check_labels(config, None if labels is None else np.asarray(labels))
    if low_res is None:
        check_low_res(config, None)
        return
    _, height, width, channels = low_res.shape
    check_low_res(config, (height, width))
    if channels != config.out_channels:
        raise UserError(
            f"low_res has {channels} channels; the model takes {config.out_channels}"
        )


def is_upsampler(config: NetworkConfig) -> bool:
    """Whether the network sees a low-resolution image beside the noisy one."""
    return config.in_channels == 2 * config.out_channels


def check_low_res(config: NetworkConfig, size: tuple[int, int] | None) -> None:
    """Refuses low-resolution images of a size that makes no sense, and missing ones."""
    if config.in_channels != config.out_channels and not is_upsampler(config):
        raise UserError(
            f"the model takes {config.in_channels} channels and gives "
            f"{config.out_channels}; it can neither sample nor enlarge"
        )
    if size is None:
        if is_upsampler(config):
            raise UserError("the model enlarges images; give it some as low_res")
        return
    if not is_upsampler(config):
        raise UserError("the model does not enlarge images; leave low_res out")
    (height, width), most = size, config.image_size
    if height != width or not 1 <= width <= most:
        raise UserError(
            f"low_res has {width}x{height} pixels; the model enlarges squares to "
            f"{most}x{most}"
        )


def enlarge(low_res: Images, size: int) -> Float[Array, "b _ _ c"]:
    """Bilinear to (size, size) as ADM's upsamplers get the low-resolution image.

    Pixel centres are half a pixel from the border (PyTorch's align_corners False).
    """
    shape = (len(low_res), size, size, low_res.shape[-1])
    return jax.image.resize(low_res, shape, "linear", antialias=False)


@functools.cache
def compiled_generate(
    config: NetworkConfig,
    schedule: ScheduleConfig,
    sampler: SamplerConfig,
    codec: AutoencoderConfig | None,
) -> Callable[..., Images]:
    """The whole sampler as one compiled function of parameters, times and keys.

    Of a base in latents it decodes them.
    """
    predict = make_denoise(config, make_schedule(schedule))
    size, rounded = config.image_size, make_rounding(config)

    def run(params, stack: Step, keys, labels, low_res) -> Images:
        x = sampling.image_noise(keys, 0, (size, size, config.out_channels))
        hole_weight = jnp.ones((*x.shape[:3], 1))  # hole everywhere
        params = rounded(params)

        def denoise(x: Images, step: Step):
            timesteps = jnp.broadcast_to(step.timesteps[1:], (len(x), 1))
            level = levels_at(step, hole_weight)
            if low_res is not None:
                x = jnp.concatenate([x, low_res], axis=-1)
            return predict(params, x, level, NoiseLevels(timesteps), labels)

        return sampling.sample(denoise, sampler, stack, x, hole_weight, keys)

    def decoded(params, stack: Step, keys, labels, low_res) -> Images:
        assert codec is not None
        latents = run(params["params"], stack, keys, labels, low_res)
        return decode(codec, params["codec"], latents)

    options = convolution_options(config.model_channels)
    return jax.jit(decoded if codec else run, compiler_options=options)
