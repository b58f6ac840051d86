"""Filling holes with a trained model: arrays in, arrays out.

model = rad_jax.load("runs/digits")
filled = rad_jax.inpaint(model, image, mask, key=jax.random.key(0), num_samples=4)
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.model import Model, check_labels
from rad_jax.diffusion import sampling
from rad_jax.diffusion.conditioning import conditioning
from rad_jax.diffusion.sampling import SamplerConfig
from rad_jax.diffusion.schedule import (
    LogSignal,
    ScheduleConfig,
    Step,
    make_schedule,
    mask_to_hole_weight,
)
from rad_jax.errors import UserError
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.inpaint_files import inpaint_files
from rad_jax.models.apply import make_apply
from rad_jax.models.config import UNetConfig
from rad_jax.runtime.memory import Call, RetryOnOOM
from rad_jax.runtime.sharding import on_all_devices
from rad_jax.typing import Images, Labels, Masks, PRNGKey, PRNGKeys
from rad_jax.version import __version__


def inpaint(
    model: Model,
    image: Any,
    mask: Any,
    *,
    key: PRNGKey,
    steps: int = 100,
    num_samples: int = 1,
    label: int | None = None,
    sampler: SamplerConfig | None = None,
    grid: str = "uniform",
) -> np.ndarray:
    """Fills the hole of one image, several times over.

    Args:
      model: from ``load``.
      image: (h, w, c), float32 in [-1, 1] or uint8; c is the model's. The content of
        the hole is not used.
      mask: (h, w), 1 or True in the hole, 0 where the image is kept; values between
        make it soft there (and take the slower dense noise embedding).
      key: the random key; sample i uses ``fold_in(key, i)``.
      steps: network evaluations, 1 .. T1.
      num_samples: how many different fillings.
      label: what the image shows, a class of the model; exactly if it has classes.
      sampler: the method; by default the paper's ancestral one, with the learned
        variance if the model has it.
      grid: where the steps lie, ``sampling.time_grid``.

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
    pixels = to_float(image) if image.dtype == np.uint8 else image.astype(np.float32)
    if not np.all(np.abs(pixels[mask < 1]) <= 1):
        raise UserError("image must be uint8, or float32 with values in [-1, 1]")
    pad = [(0, -size % model.config.stride) for size in mask.shape]
    images = np.pad(pixels, [*pad, (0, 0)], mode="edge")[None]
    masks = np.pad(mask, pad)[None]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_samples))
    filled = fill(
        model,
        jnp.repeat(jnp.asarray(images), num_samples, axis=0),
        jnp.repeat(jnp.asarray(masks), num_samples, axis=0),
        keys,
        labels=_labels(model, label, num_samples),
        steps=steps,
        sampler=sampler,
        grid=grid,
    )
    filled = np.asarray(filled)[:, : mask.shape[0], : mask.shape[1]]
    return to_bytes(filled) if image.dtype == np.uint8 else filled


def fill(
    model: Model,
    images: Images,
    masks: Masks,
    keys: PRNGKeys,
    *,
    labels: Labels | None = None,
    steps: int = 100,
    sampler: SamplerConfig | None = None,
    grid: str = "uniform",
) -> Images:
    """Fills the holes of a batch; ``inpaint`` without its conveniences.

    Args:
      model: from ``load``.
      images: (b, h, w, c) in [-1, 1], sizes divisible by the model's stride.
      masks: (b, h, w) in [0, 1].
      keys: a key for each image.
      labels: int32 (b,), the images' classes; exactly if the model has classes.
      steps: network evaluations.
      sampler: the method.
      grid: where the steps lie.

    Returns:
      (b, h, w, c); known pixels bit for bit those of ``images``.

    Raises:
      UserError: the model cannot inpaint, or labels or options do not fit it.
    """
    return prepare_fill(
        model,
        images,
        masks,
        keys,
        labels=labels,
        steps=steps,
        sampler=sampler,
        grid=grid,
    )()


def prepare_fill(
    model: Model,
    images: Images,
    masks: Masks,
    keys: PRNGKeys,
    *,
    labels: Labels | None,
    steps: int,
    sampler: SamplerConfig | None,
    grid: str,
) -> Call:
    """``fill``, ready to be called."""
    _check(model, labels)
    sampler = sampler or default_sampler(model)
    if sampler.variance == "learned" and not model.config.learn_sigma:
        raise UserError("the model has no learned variance; use variance 'small'")
    schedule = make_schedule(model.schedule)
    times = sampling.time_grid(schedule, steps, grid)
    stack = sampling.grid_steps(schedule, times, bucket=sampling.STEP_BUCKET)
    start = LogSignal(*(np.float32(x[times.start]) for x in schedule.signal))
    values = np.asarray(masks)
    # One timestep for the whole image needs no map, whatever the mask.
    binary = model.config.noise_embedding == "time" or bool(
        np.all((values == 0) | (values == 1))
    )
    run = compiled_fill(model.config, model.schedule, sampler, binary)
    batch, params = on_all_devices((images, masks, keys, labels), model.params)
    return Call(run, (params, stack, start, *batch), len(images))


def _labels(model: Model, label: int | None, count: int) -> Labels | None:
    """A label for all images, if it is one of the model's."""
    _check(model, None if label is None else np.array([label]))
    return None if label is None else jnp.full(count, label, jnp.int32)


def _check(model: Model, labels: np.ndarray | Labels | None) -> None:
    """Refuses a model that cannot inpaint, and labels that it does not have.

    Raises:
      UserError: saying which.
    """
    config = model.config
    if config.in_channels != config.out_channels:
        raise UserError(
            f"the model takes {config.in_channels} channels and gives "
            f"{config.out_channels}: it enlarges images and cannot inpaint them"
        )
    check_labels(config, None if labels is None else np.asarray(labels))


def fill_files(
    model: Model,
    image: Path,
    mask: Path,
    output: Path,
    *,
    steps: int,
    sampler: str,
    num_samples: int,
    seed: int,
    batch_size: int,
    invert_mask: bool,
    label: int | None = None,
    grid: str = "uniform",
) -> int:
    """Fills the holes of picture files; what ``rad-jax inpaint`` runs.

    Arguments as in ``inpaint_files.inpaint_files``; ``sampler`` is a method of
    ``sampling.METHODS``, ``grid`` one of ``sampling.GRIDS``, and ``label`` is the class
    of all pictures. The PNG files carry version, seed, sampler, steps, grid and class.

    Returns:
      The exit code: 1 if some pictures of a folder could not be done.
    """
    config = default_sampler(model, sampler)
    # Refuse what does not fit before anything is read.
    _labels(model, label, 1)
    sampling.time_grid(make_schedule(model.schedule), steps, grid)

    def prepare(images: np.ndarray, holes: np.ndarray, seeds: np.ndarray) -> Call:
        return prepare_fill(
            model,
            jnp.asarray(images),
            jnp.asarray(holes),
            jax.vmap(jax.random.key)(jnp.asarray(seeds)),
            labels=_labels(model, label, len(images)),
            steps=steps,
            sampler=config,
            grid=grid,
        )

    text = {
        "Software": f"rad_jax {__version__}",
        "Sampler": f"{sampler}, {steps} steps, grid {grid}",
        "Seed": str(seed),
    }
    if label is not None:
        text["Class"] = str(label)
    return inpaint_files(
        RetryOnOOM(prepare),
        image,
        mask,
        output,
        channels=model.channels,
        stride=model.config.stride,
        num_samples=num_samples,
        seed=seed,
        batch_size=batch_size,
        invert_mask=invert_mask,
        text=text,
    )


def default_sampler(model: Model, method: str = "ddpm", eta: float = 0.0):
    """The sampler that fits a model's outputs."""
    variance = "learned" if model.config.learn_sigma else "small"
    return SamplerConfig(method, eta, variance, model.parametrisation)


@functools.cache
def compiled_fill(
    config: UNetConfig,
    schedule_config: ScheduleConfig,
    sampler: SamplerConfig,
    binary: bool,
) -> Callable[..., Images]:
    """The whole sampler as one compiled function of parameters, times and images.

    With ``binary`` masks the noise embedding has two levels and its maps are made
    once, before the loop; else it is dense (`conditioning`).
    """
    apply = make_apply(config)
    schedule = make_schedule(schedule_config)

    def run(
        params, stack: Step, start: LogSignal, images, masks, keys, labels
    ) -> Images:
        hole_weight = jax.vmap(functools.partial(mask_to_hole_weight, schedule))(masks)
        noise = conditioning(config, schedule, masks, hole_weight, binary=binary)

        def denoise(x: Images, step: Step):
            return apply(params, x, noise(step), labels)

        return sampling.inpaint(
            denoise, sampler, stack, start, images, hole_weight, keys
        )

    return jax.jit(run)
