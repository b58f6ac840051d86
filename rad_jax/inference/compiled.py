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
from rad_jax.inference.latents import Through, filled_through, to_latents, to_pictures
from rad_jax.inference.prompts import Told, guided, joined, told
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
    through: Through | None = None,
) -> Callable[..., Images]:
    """The whole sampler as one compiled function of parameters, times and images.

    With ``binary`` masks the noise embedding has two levels and its maps are made
    once, before the loop; else it is dense (`conditioning`). With ``tiled`` images the
    network sees their tiles, and what it predicts is blended (`tiles`). Pictures of a
    base in latents go there and back ``through`` its autoencoder.
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
    whole = filled_through(through, run) if through else run
    return jax.jit(whole, compiler_options=options)


class Parts(NamedTuple):
    """The sampler in parts, each compiled.

    Attributes:
      begin: ``begin(params, start, images, masks, keys)``: the carry before the first
        step, and the masks that the network is told of.
      advance: ``advance(params, stack, carry, masks, keys, labels)``, some steps on.
      finish: ``finish(params, x, images, masks)``: pictures of what a carry has.
    """

    begin: Any
    advance: Any
    finish: Any


@functools.cache
def compiled_parts(
    config: NetworkConfig,
    schedule_config: ScheduleConfig,
    sampler: SamplerConfig,
    binary: bool,
    tiled: bool,
    through: Through | None = None,
) -> Parts:
    """`compiled_fill` in parts, between which there is time to look at the images."""
    network = make_network(config, schedule_config, binary, tiled)
    schedule = make_schedule(schedule_config)

    def begin(params, start: LogSignal, images, masks, keys):
        if through:
            images, masks = to_latents(through, params["codec"], images, masks)
        hole_weight = hole_weights(schedule, masks)
        x = sampling.initial_images(images, hole_weight, start, keys)
        return sampling.Carry(x, jnp.zeros_like(x)), masks

    def advance(params, stack: Step, carry, masks, keys, labels) -> sampling.Carry:
        own = params["params"] if through else params
        if through and through.text:
            labels = told(through.text, params["text"], labels)
        denoise, hole_weight = network(own, masks, labels)
        return sampling.advance(denoise, sampler, stack, carry, hole_weight, keys)

    def finish(params, x, images, masks) -> Images:
        if through is None:
            return x
        return to_pictures(through, params["codec"], x, images, masks)

    options = convolution_options(config.model_channels)
    return Parts(
        jax.jit(begin),
        jax.jit(advance, compiler_options=options),
        jax.jit(finish) if through else finish,
    )


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
            each = len(seen) // len(masks)
            labels = jax.tree.map(lambda x: jnp.repeat(x, each, axis=0), labels)
        asked, guidance = {"labels": labels}, None
        if isinstance(labels, Told):
            asked, guidance = {"context": labels.context}, labels.guidance
            if labels.negative is not None:  # each image twice, in one call
                seen, seen_weight = joined(seen), joined(seen_weight)
                asked = {"context": jnp.concatenate([labels.context, labels.negative])}
        condition = conditioning(config, schedule, seen, seen_weight, binary=binary)

        def one_size(x: Images, step: Step):
            channels = x.shape[-1]
            x = x if guidance is None else joined(x)
            level = levels_at(step, seen_weight)
            output = denoise(params, x, level, condition(step), **asked)
            return output if guidance is None else guided(output, channels, guidance)

        large = tiles.tiled(one_size, tile, step_between) if tiled else one_size
        return large, hole_weight

    return network
