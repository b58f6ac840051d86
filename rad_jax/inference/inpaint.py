"""Filling holes with a trained model: arrays in, arrays out.

model = rad_jax.load("runs/digits")
filled = rad_jax.inpaint(model, image, mask, key=jax.random.key(0), num_samples=4)
"""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.baselines.choice import Baseline
from rad_jax.checkpoints.model import (
    AnyModel,
    LamaModel,
    Model,
    check_labels,
    program_params,
    require_inpainting,
)
from rad_jax.diffusion import sampling
from rad_jax.diffusion.options import SamplerConfig, Sampling, SamplingOptions
from rad_jax.diffusion.schedule import LogSignal, Step, make_schedule
from rad_jax.errors import UserError
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.comparison import prepare_baseline
from rad_jax.inference.compiled import compiled_fill
from rad_jax.inference.lama import prepare_lama, require_one_pass
from rad_jax.inference.latents import through_of
from rad_jax.inference.prompts import Shown, shown
from rad_jax.inference.samplers import sampler_config
from rad_jax.inference.sizes import sizes_of
from rad_jax.models.network import NetworkConfig
from rad_jax.runtime.memory import Call, RetryOnOOM
from rad_jax.runtime.sharding import on_all_devices
from rad_jax.typing import Images, Masks, PRNGKey, PRNGKeys


def inpaint(
    model: AnyModel,
    image: Any,
    mask: Any,
    *,
    key: PRNGKey,
    steps: int | None = None,
    num_samples: int = 1,
    label: int | None = None,
    sampler: SamplerConfig | None = None,
    grid: str | Sequence[int] | None = None,
    seam: str | None = None,
    prompt: str | None = None,
    negative_prompt: str = "",
    guidance: float = SamplingOptions.guidance,
    method: Baseline | None = None,
) -> np.ndarray:
    """Fills the hole of one image, several times over.

    Args:
      model: from ``load``.
      image: (h, w, c), float32 in [-1, 1] or uint8; c is the model's. The content of
        the hole is not used.
      mask: (h, w), 1 or True in the hole, 0 where the image is kept; values between
        make it soft there (and take the slower dense noise embedding).
      key: the random key; sample i uses ``fold_in(key, i)``. To LaMa it is nothing, and
        it takes none of the options below.
      steps: network evaluations, 1 .. T1; by default 100, or what the model was
        distilled for.
      num_samples: how many different fillings.
      label: what the image shows, a class of the model; exactly if it has classes.
      sampler: the method; by default the paper's ancestral one, with the learned
        variance if the model has it, or that of a distilled model.
      grid: where the steps lie, or their times; ``sampling.time_grid``.
      seam: of a model in latents, "paste", "feather" or "poisson".
      prompt: what is to be seen; exactly of a model that is told texts.
      negative_prompt: what is not.
      guidance: how much more like the first than like the second; 1 is the first alone.
      method: another one than RAD, of a plain ADM; it takes none of these but label.

    Returns:
      (num_samples, h, w, c), uint8 or float32 as the image; known pixels are its own.

    Raises:
      UserError: shapes, values or options do not fit.
    """
    image, mask = np.asarray(image), np.asarray(mask, np.float32)
    if image.ndim != 3 or image.shape[-1] != model.channels or not image.size:
        raise UserError(
            f"image has shape {image.shape}; the model takes (h, w, {model.channels})"
        )
    if mask.shape != image.shape[:2]:
        raise UserError(f"mask has shape {mask.shape}, the image {image.shape[:2]}")
    if not (mask.min() >= 0 and mask.max() <= 1):
        raise UserError("mask has values outside [0, 1]; 1 is the hole, 0 is known")
    if num_samples < 1:
        raise UserError(f"num_samples is {num_samples}; it must be >= 1")
    if isinstance(model, LamaModel):
        require_one_pass(num_samples=num_samples)
    pixels = to_float(image) if image.dtype == np.uint8 else image.astype(np.float32)
    if not np.all(np.abs(pixels[mask < 1]) <= 1):
        raise UserError("image must be uint8, or float32 with values in [-1, 1]")
    pad = [(0, -size % sizes_of(model).stride) for size in mask.shape]
    images = np.pad(pixels, [*pad, (0, 0)], mode="edge")[None]
    masks = np.pad(mask, pad)[None]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_samples))
    rad = SamplingOptions(
        steps,
        sampler,
        grid,
        label=label,
        seam=seam,
        prompt=prompt,
        negative_prompt=negative_prompt,
        guidance=guidance,
    )
    call = prepare_fill(model, choose(rad, method))(
        jnp.repeat(jnp.asarray(images), num_samples, axis=0),
        jnp.repeat(jnp.asarray(masks), num_samples, axis=0),
        keys,
    )
    filled = np.asarray(call())[:, : mask.shape[0], : mask.shape[1]]
    return to_bytes(filled) if image.dtype == np.uint8 else filled


def fill(
    model: AnyModel,
    images: Images,
    masks: Masks,
    keys: PRNGKeys,
    *,
    labels: Shown | None = None,
    steps: int | None = None,
    sampler: SamplerConfig | None = None,
    grid: str | Sequence[int] | None = None,
    seam: str | None = None,
    method: Baseline | None = None,
) -> Images:
    """Fills the holes of a batch; ``inpaint`` without its conveniences.

    Args:
      model: from ``load``.
      images: (b, h, w, c) in [-1, 1], sizes divisible by the model's stride; any of a
        LaMa.
      masks: (b, h, w) in [0, 1].
      keys: a key for each image.
      labels: int32 (b,), the images' classes, exactly if the model has classes; or
        their `Prompts`.
      steps: network evaluations.
      sampler: the method.
      grid: where the steps lie, or their times.
      seam: see ``inpaint``.
      method: another one than RAD, see ``inpaint``.

    Returns:
      (b, h, w, c); known pixels bit for bit those of ``images``.

    Raises:
      UserError: the model cannot inpaint, or labels or options do not fit it.
    """
    rad = SamplingOptions(steps, sampler, grid, seam=seam)
    prepare = prepare_fill(model, choose(rad, method))
    return prepare(images, masks, keys, labels)()


def choose(
    options: SamplingOptions, method: Baseline | None
) -> SamplingOptions | Baseline:
    """RAD's options, or another method, which takes none of them but the label.

    Raises:
      UserError: there are both.
    """
    if method is None:
        return options
    if options.for_model() != SamplingOptions(label=options.label).for_model():
        raise UserError(
            "steps, sampler, grid, eta, snr and seam are RAD's; give the method's "
            "settings"
        )
    return dataclasses.replace(method, label=options.label)


def prepare_fill(
    model: AnyModel, options: SamplingOptions | Baseline, *, tiled: bool = False
) -> Callable[..., Call]:
    """``fill`` with a model and options; what depends on them alone is made here, once.

    Args:
      model: from ``load``.
      options: RAD's, or another method; its label is that of all images that are given
        none.
      tiled: the network sees tiles of its own size of the images, whose sides are
        one such tile and whole steps from tile to tile (`tiles.tile_step`); of RAD
        alone.

    Returns:
      ``prepare(images, masks, keys, labels=None)``, arguments as of ``fill``: a call
      whose arrays are on the devices and which computes nothing yet.

    Raises:
      UserError: the model cannot inpaint, or the options do not fit it; ``prepare``
        raises it where labels do not.
    """
    if isinstance(options, Baseline):
        return _images_alone(prepare_baseline(model, options))
    if isinstance(model, LamaModel):
        return prepare_lama(model, options, tiled=tiled)
    # 1. What the model can do, and the times, as data: the program is one for all.
    resolved = options.for_model(model.few_steps)
    sampler = sampler_config(model, resolved)
    stack, start = prepare_steps(model, resolved, sampling.STEP_BUCKET)
    through = through_of(model, resolved.seam)

    def prepare(
        images: Images, masks: Masks, keys: PRNGKeys, labels: Shown | None = None
    ) -> Call:
        # 2. Each image has a class or a prompt, or none has.
        given = shown(model, resolved, len(images), labels)
        # 3. The program: two noise levels for binary masks, a map for soft ones.
        binary = takes_two_levels(model.config, masks)
        about = model.config, model.schedule, sampler
        run = compiled_fill(*about, binary, tiled, through)
        # 4. The batch, divided over the devices (and filled up where it must be).
        arrays = (images, masks, keys, given)
        batch, params = on_all_devices(arrays, program_params(model))
        return Call(run, (params, stack, start, *batch), len(images))

    return prepare


def _images_alone(prepare: Callable[..., Call]) -> Callable[..., Call]:
    """Without the counts of evaluations."""
    images = operator.attrgetter("images")
    return lambda *batch: prepare(*batch)._replace(finish=images)


def prepare_steps(
    model: Model, options: Sampling, bucket: int
) -> tuple[Step, LogSignal]:
    """The steps of the options, padded to a multiple, and the levels at their start.

    Raises:
      UserError: the model cannot inpaint, or has not as many steps.
    """
    require_inpainting(model.config)
    if options.label is not None:
        check_labels(model.config, np.array([options.label]))
    schedule = make_schedule(model.schedule)
    times = sampling.time_grid(schedule, options.steps, options.grid)
    stack = sampling.grid_steps(schedule, times, bucket)
    return stack, LogSignal(*(np.float32(x[times.start]) for x in schedule.signal))


def takes_two_levels(config: NetworkConfig, masks: Masks) -> bool:
    """Whether two noise levels and their maps say all of these masks.

    One timestep for the whole image needs no map, whatever the mask.
    """
    values = np.asarray(masks)
    binary = bool(np.all((values == 0) | (values == 1)))
    return binary or config.noise_embedding == "time"


def fill_by_seed(
    model: AnyModel, options: SamplingOptions | Baseline, *, tiled: bool = False
) -> RetryOnOOM:
    """``fill`` of NumPy arrays, in smaller batches where memory ends.

    Args:
      model: from ``load``.
      options: as ``prepare_fill``.
      tiled: as ``prepare_fill``.

    Returns:
      ``fill(images, masks, seeds)``, or ``fill(images, masks, seeds, labels)``: float32
      (b, h, w, c) and (b, h, w), uint32 (b,), int32 (b,) -> float32 (b, h, w, c). An
      image depends on its own arguments alone.

    Raises:
      UserError: as ``prepare_fill``.
    """
    return by_seed(prepare_fill(model, options, tiled=tiled))


def by_seed(prepare: Callable[..., Call]) -> RetryOnOOM:
    """The calls that are prepared, of NumPy arrays and seeds; see `fill_by_seed`."""

    def prepare_seeded(images, masks, seeds, *labels) -> Call:
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
        return prepare(
            jnp.asarray(images), jnp.asarray(masks), keys, *map(jnp.asarray, labels)
        )

    return RetryOnOOM(prepare_seeded)
