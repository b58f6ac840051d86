"""Filling in parts of so many steps, between which a program can look at the images."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.model import Model, program_params
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.inference.compiled import compiled_parts
from rad_jax.inference.fill_regions import Fills, Request
from rad_jax.inference.inpaint import (
    prepare_steps,
    takes_two_levels,
)
from rad_jax.inference.latents import through_of
from rad_jax.inference.prompts import shown
from rad_jax.inference.regions import Region
from rad_jax.inference.samplers import sampler_config
from rad_jax.inference.scaling import region_output
from rad_jax.runtime.sharding import on_all_devices

OnStep = Callable[[int, int, np.ndarray], Any]
"""``on_step(step, total, preview)``; the preview is uint8 (h, w, c)."""

Show = Callable[[Any, Region, np.ndarray], np.ndarray]
"""``show(owner, region, generated)``: a picture with what fills a region, as bytes."""


def fill_in_steps(
    model: Model,
    options: SamplingOptions,
    requests: Sequence[Request],
    on_step: OnStep,
    every: int,
    show: Show,
) -> Fills:
    """`prepare_fill` in parts; the images are the same but for rounding.

    Args:
      model: from ``load``.
      options: its label is that of all images.
      requests: all that will be filled, which tell the total of steps.
      on_step: called after each part.
      every: steps of a part, >= 1.
      show: makes the preview, of the first image of the batch.

    Raises:
      UserError: as `prepare_fill`, or there is no such part.
    """
    if every < 1:
        raise UserError(f"on_step_every is {every}; it must be >= 1")
    resolved = options.for_model(model.few_steps)
    sampler = sampler_config(model, resolved)
    stack, start = prepare_steps(model, resolved, every)
    through = through_of(model, resolved.seam)
    about = model.config, model.schedule, sampler
    by_key = {jax.random.key_data(each.seed).tobytes(): each for each in requests}
    seen: dict[bytes, None] = {}

    def fill(tiled: bool, images: Any, masks: Any, keys: Any) -> np.ndarray:
        names = [data.tobytes() for data in np.asarray(jax.random.key_data(keys))]
        seen.update(dict.fromkeys(names))
        images, masks = jnp.asarray(images), jnp.asarray(masks)
        labels = shown(model, resolved, len(images))
        binary = takes_two_levels(model.config, masks)
        parts = compiled_parts(*about, binary, tiled, through)
        arrays = (images, masks, keys, labels)
        arrays, params = on_all_devices(arrays, program_params(model))
        given, holes, keys, labels = arrays
        carry, told = parts.begin(params, start, given, holes, keys)
        first = by_key[names[0]]
        done = len(seen) - len(set(names))
        for step in range(0, len(stack.active), every):
            some = jax.tree.map(operator.itemgetter(slice(step, step + every)), stack)
            carry = parts.advance(params, some, carry, told, keys, labels)
            clean = parts.finish(params, carry.x0[:1], given[:1], holes[:1])
            predicted = region_output(np.asarray(clean[0]), first.region)
            at = min(step + every, resolved.steps)
            share = done * resolved.steps + len(set(names)) * at
            preview = show(first.owner, first.region, predicted)
            on_step(share, len(by_key) * resolved.steps, preview)
        filled = parts.finish(params, carry.x, given, holes)
        return np.asarray(filled)[: len(images)]

    return Fills(lambda *batch: fill(False, *batch), lambda *batch: fill(True, *batch))
