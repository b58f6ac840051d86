"""The program that fills holes, compiled for chips that this machine does not have."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from rad_jax.baselines.choice import Baseline
from rad_jax.checkpoints.model import (
    AnyModel,
    LamaModel,
    parts,
    program_params,
    with_params,
)
from rad_jax.chips.compiled import Needs, TooLarge, compile_for, devices_of
from rad_jax.chips.slices import Slice
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.inference.fill_regions import most_tiled
from rad_jax.inference.inpaint import prepare_fill
from rad_jax.inference.regions import plan
from rad_jax.inference.sizes import sizes_of
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.runtime.batching import balanced_batch_size
from rad_jax.runtime.flops import count_flops
from rad_jax.runtime.memory import Call
from rad_jax.runtime.sharding import batch_sharding, everywhere, make_mesh


class Batch(NamedTuple):
    """What one call of the program fills.

    Attributes:
      count: images.
      size: height and width that the network is given.
      soft: whether masks have values between 0 and 1.
      tiled: whether the network sees tiles of it.
    """

    count: int
    size: tuple[int, int]
    soft: bool = False
    tiled: bool = False


def batch_of(
    model: AnyModel,
    options: SamplingOptions | Baseline,
    strategy: StrategyOptions,
    batch_size: int,
    size: tuple[int, int] | None,
    soft: bool,
) -> Batch:
    """What is filled at once of many pictures of one size, whose holes fill them.

    Args:
      model: shapes will do as parameters.
      options: how it fills.
      strategy: of pictures larger than the model.
      batch_size: images at once, at most.
      size: of the pictures, height and width; None for the model's own.
      soft: whether masks have values between 0 and 1.
    """
    sizes = sizes_of(model, options)
    hole = np.ones(size or (sizes.native, sizes.native), bool)
    region = plan(hole, sizes, strategy)[0]
    tiled = region.strategy == "tile"
    most = most_tiled(region.canvas, sizes.native, batch_size) if tiled else batch_size
    return Batch(most, region.canvas, soft, tiled)


def share_of(where: Slice, total: int, batch_size: int) -> int:
    """Images at once, of so many that the slice's hosts divide.

    Raises:
      UserError: there are fewer than hosts.
    """
    hosts = len({device.process_index for device in devices_of(where)})
    if total < hosts:
        raise UserError(
            f"there are {total} images, and {where.name} has {hosts} hosts; give each "
            "an image"
        )
    return balanced_batch_size(math.ceil(total / hosts), batch_size)


def host_devices(where: Slice) -> list[Any]:
    """A slice's devices of its first host."""
    every = devices_of(where)
    return [x for x in every if x.process_index == every[0].process_index]


def compile_fill(
    model: AnyModel, options: SamplingOptions | Baseline, batch: Batch, where: Slice
) -> tuple[int, Needs]:
    """Compiles the program that a host of the slice runs.

    Args:
      model: shapes will do as parameters.
      options: how it fills.
      batch: what it fills.
      where: of its devices those of one host, which do not talk to others.

    Returns:
      How many devices share the batch, and what each needs.

    Raises:
      TooLarge: for the chip; the line says what fits.
      UserError: options do not fit the model.
    """
    local = host_devices(where)[: batch.count]

    def build(_: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        call, shapes = _call(model, options, batch, local)
        return _anew(call), shapes

    try:
        return len(local), compile_for(where, build)[1]
    except TooLarge as error:
        fits = _what_fits(model, batch, len(local), error)
        raise TooLarge(f"{error}; {fits}", error.need, error.there) from error


def fill_flops(
    model: AnyModel, options: SamplingOptions | Baseline, batch: Batch
) -> float:
    """Operations of the convolutions and matrix products of a call.

    Of loops whose rounds depend on the images, one round.
    """
    call, shapes = _call(model, options, batch, jax.local_devices()[:1])
    steps = steps_of(model, options)
    if steps is not None:  # not those that fill the stack up
        params, stack, *rest = shapes
        stack = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((steps, *x.shape[1:]), x.dtype), stack
        )
        shapes = (params, stack, *rest)
    return count_flops(_anew(call), *shapes)


def _call(
    model: AnyModel,
    options: SamplingOptions | Baseline,
    batch: Batch,
    devices: Sequence[Any],
) -> tuple[Call, Sequence[Any]]:
    """The call that fills such a batch, and its arguments' shapes on these devices."""
    count = batch.count + -batch.count % len(devices)
    images = jnp.zeros((count, *batch.size, model.channels))
    masks = np.zeros((count, *batch.size), np.float32)
    masks[:, : batch.size[0] // 2] = 0.5 if batch.soft else 1
    keys = jax.vmap(jax.random.key)(jnp.arange(count, dtype=jnp.uint32))
    labels = None
    if model.config.num_classes and options.label is None:
        labels = jnp.zeros(count, jnp.int32)
    # The real one but for parameters, which nothing before the call looks at.
    blank = with_params(model, {name: {} for name in parts(model)})
    prepare = prepare_fill(blank, options, tiled=batch.tiled)
    call = prepare(images, jnp.asarray(masks), keys, labels)
    mesh = make_mesh(1, devices)

    def shape(x: Any) -> jax.ShapeDtypeStruct:
        divided = isinstance(x, jax.Array) and _is_divided(x)
        there = batch_sharding(mesh) if divided else everywhere(mesh)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there)

    _, *rest = call.arguments
    return call, jax.tree.map(shape, (program_params(model), *rest))


def _is_divided(x: jax.Array) -> bool:
    """Whether it is part of the batch, by where the call has put it."""
    return isinstance(x.sharding, NamedSharding) and any(x.sharding.spec)


def _anew(call: Call) -> Any:
    """The function, to be traced again: JAX keeps what it traced for another chip."""
    function = call.function.__wrapped__
    return jax.jit(lambda *arguments: function(*arguments))


def steps_of(model: AnyModel, options: SamplingOptions | Baseline) -> int | None:
    """Of RAD, whose scan is over them; None of other methods, with their own loops."""
    if isinstance(options, Baseline) or isinstance(model, LamaModel):
        return None
    return options.for_model(model.few_steps).steps


def _what_fits(model: AnyModel, batch: Batch, devices: int, error: TooLarge) -> str:
    """The largest batch, if an image needs the same in any."""
    less = "take --dtype bfloat16, smaller pictures or a larger chip"
    if batch.tiled or error.need is None or error.there is None:
        return f"give a smaller --batch_size, or {less}"
    leaves = jax.tree.leaves(program_params(model))
    params = sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
    if model.config.dtype == "bfloat16":  # and what they are rounded to
        params *= 1.5
    here = math.ceil(batch.count / devices)
    each = max(error.need - params, 1) / here
    fits = int(max(error.there - params, 0) / each)
    if not fits:
        return f"not even one image fits, by this number; {less}"
    return f"by this number --batch_size {fits * devices} fits"
