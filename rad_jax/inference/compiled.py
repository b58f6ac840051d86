"""The compiled programs that fill holes: the whole sampler, and the same in parts."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rad_jax.diffusion import sampling, tiles
from rad_jax.diffusion.conditioning import conditioning
from rad_jax.diffusion.denoise import make_denoise
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.schedule import (
    LogSignal,
    Schedule,
    Step,
    levels_at,
    make_schedule,
    mask_to_hole_weight,
)
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.apply import make_rounding
from rad_jax.models.network import NetworkConfig
from rad_jax.runtime.cpu_convolutions import convolution_options
from rad_jax.typing import Images, LogLevels, Masks


@functools.cache
def compiled_fill(
    config: NetworkConfig,
    schedule_config: ScheduleConfig,
    sampler: SamplerConfig,
    binary: bool,
    tiled: bool,
) -> Callable[..., Images]:
    """The whole sampler as one compiled function of parameters, times and images.

    With ``binary`` masks the noise embedding has two levels and its maps are made
    once, before the loop; else it is dense (`conditioning`). With ``tiled`` images the
    network sees their tiles, and what it predicts is blended (`tiles`).
    """
    network = make_network(config, schedule_config, binary, tiled)

    def run(
        params, stack: Step, start: LogSignal, images, masks, keys, labels
    ) -> Images:
        denoise, hole_weight = network(params, masks, labels)
        return sampling.inpaint(
            denoise, sampler, stack, start, images, hole_weight, keys
        )

    options = convolution_options(config.model_channels)
    return jax.jit(run, compiler_options=options)


class Parts(NamedTuple):
    """The sampler in parts, each compiled.

    Attributes:
      begin: ``begin(start, images, masks, keys)``, the carry before the first step.
      advance: ``advance(params, stack, carry, masks, keys, labels)``, some steps on.
    """

    begin: Any
    advance: Any


@functools.cache
def compiled_parts(
    config: NetworkConfig,
    schedule_config: ScheduleConfig,
    sampler: SamplerConfig,
    binary: bool,
    tiled: bool,
) -> Parts:
    """`compiled_fill` in parts, between which there is time to look at the images."""
    network = make_network(config, schedule_config, binary, tiled)
    schedule = make_schedule(schedule_config)

    def begin(start: LogSignal, images, masks, keys) -> sampling.Carry:
        hole_weight = hole_weights(schedule, masks)
        x = sampling.initial_images(images, hole_weight, start, keys)
        return sampling.Carry(x, jnp.zeros_like(x))

    def advance(params, stack: Step, carry, masks, keys, labels) -> sampling.Carry:
        denoise, hole_weight = network(params, masks, labels)
        return sampling.advance(denoise, sampler, stack, carry, hole_weight, keys)

    options = convolution_options(config.model_channels)
    return Parts(jax.jit(begin), jax.jit(advance, compiler_options=options))


def hole_weights(schedule: Schedule, masks: Masks) -> LogLevels:
    """``mask_to_hole_weight`` of a batch."""
    return jax.vmap(functools.partial(mask_to_hole_weight, schedule))(masks)


def make_network(
    config: NetworkConfig, schedule_config: ScheduleConfig, binary: bool, tiled: bool
) -> Callable[..., tuple[sampling.Denoiser, LogLevels]]:
    """The network with its conditioning on masks.

    Returns:
      ``network(params, masks, labels)``: the denoiser of a batch with these masks, and
      the masks' hole weights.
    """
    schedule, rounded = make_schedule(schedule_config), make_rounding(config)
    denoise = make_denoise(config, schedule)
    tile = config.image_size
    step_between = tiles.tile_step(tile, config.stride)

    def network(params, masks, labels) -> tuple[sampling.Denoiser, LogLevels]:
        params, hole_weight = rounded(params), hole_weights(schedule, masks)
        seen, seen_weight = masks, hole_weight
        if tiled:
            seen, seen_weight = (
                tiles.cut(x, tile, step_between) for x in (masks, hole_weight)
            )
            if labels is not None:
                labels = jnp.repeat(labels, len(seen) // len(masks))
        condition = conditioning(config, schedule, seen, seen_weight, binary=binary)

        def one_size(x: Images, step: Step):
            level = levels_at(step, seen_weight)
            return denoise(params, x, level, condition(step), labels)

        large = tiles.tiled(one_size, tile, step_between) if tiled else one_size
        return large, hole_weight

    return network
