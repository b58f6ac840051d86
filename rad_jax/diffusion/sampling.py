"""Time grids and the reverse process: one compiled scan over any denoiser.

    grid (times, NumPy)  ->  Step stack (data)  ->  lax.scan of
        denoise(x_t, step) -> network output        a batch of images
        reverse_step(...)  -> x_s                   one image, vmapped

The times are data: another grid, or another number of steps up to the same bucket,
runs the same compiled program. Noise comes from each image's own key and the number of
the step, so a result does not depend on the batch it was made in.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.diffusion import gaussian
from rad_jax.diffusion.options import (
    GRIDS,
    SamplerConfig,
    require_falling,
    require_one_of,
)
from rad_jax.diffusion.reverse import (
    at_arrival,
    corrected,
    reverse_step,
    second_order,
)
from rad_jax.diffusion.schedule import (
    LogSignal,
    Schedule,
    Step,
    log_level,
    require_steps,
    steps,
)
from rad_jax.errors import UserError
from rad_jax.typing import (
    Image,
    Images,
    LogLevel,
    LogLevels,
    Outputs,
    PRNGKeys,
)

Denoiser = Callable[[Images, Step], Outputs]
"""Network output (b, h, w, c), or (b, h, w, 2c) with a learned variance, at a step."""

STEP_BUCKET = 128
"""Step counts are padded to multiples of it, so that they share a compiled program."""


class Carry(NamedTuple):
    """Where the reverse process is between two steps.

    Attributes:
      x: the images, (b, h, w, c).
      x0: the clean images that the step before predicted; zeros at first.
    """

    x: Images
    x0: Images


class Grid(NamedTuple):
    """Times of a reverse process.

    Attributes:
      start: time whose noise the first image holds.
      times: int (n + 1,), falling; step i goes from times[i] to times[i + 1].
    """

    start: int
    times: np.ndarray


def time_grid(
    schedule: Schedule, num_steps: int, kind: str | Sequence[int] = "uniform"
) -> Grid:
    """Times from T1 to 0 for inpainting (phase 1 backwards) in ``num_steps`` steps.

    Args:
      schedule: gives T1 and the levels.
      num_steps: 1 .. T1 network evaluations.
      kind: "uniform" in t; "quadratic", denser near the clean end; "log_snr", uniform
        in a hole pixel's log signal-to-noise ratio; "official", the authors' grid:
        the initial noise is that of T1 but the first step starts one stride earlier.
        Or the times themselves, which fall from T1.

    Raises:
      UserError: for an unknown kind, more steps than the schedule has, or times of
        another.
    """
    last = schedule.config.hole_steps
    if not isinstance(kind, str):
        times = require_falling(kind, num_steps)
        if times[0] != last:
            raise UserError(
                f"times begin at {times[0]}; those of the model begin at {last}, where "
                "the hole is all noise"
            )
        return Grid(last, np.array([*times, 0]))
    require_one_of("grid", kind, GRIDS)
    require_steps(schedule, num_steps)
    left = np.arange(num_steps, -1, -1) / num_steps
    if kind == "uniform":
        times = np.rint(last * left)
    elif kind == "quadratic":
        times = np.rint(last * left**2)
    elif kind == "log_snr":
        level = schedule.signal.hole[1 : last + 1]
        log_snr = level - np.log(-np.expm1(level))
        wanted = np.linspace(log_snr[-1], log_snr[0], num_steps)
        inner = np.interp(-wanted, -log_snr, np.arange(1, last + 1))
        times = np.append(np.rint(inner), 0)
    else:  # official
        stride = last // num_steps
        times = np.append(stride * np.arange(num_steps - 1, -1, -1) + 1, 0)
        return Grid(last, times.astype(np.int64))
    # Rounding may merge times: keep one step at least between two, within 0 .. T1.
    count = np.arange(num_steps + 1)
    rising = np.maximum.accumulate(times[::-1] - count) + count
    rising = np.minimum(rising, last - num_steps + count)
    return Grid(last, rising[::-1].astype(np.int64))


def grid_steps(schedule: Schedule, grid: Grid, bucket: int = 1) -> Step:
    """The grid's steps, stacked and padded with inactive ones to a multiple.

    Args:
      schedule: the tables.
      grid: n + 1 times.
      bucket: the stack's length is n rounded up to a multiple of it, so that all
        step counts within a bucket share one compiled program.
    """
    stack = steps(schedule, grid.times[:-1], grid.times[1:])
    missing = -len(grid.times[:-1]) % bucket
    last = jax.tree.map(lambda x: np.repeat(x[-1:], missing, axis=0), stack)
    last = last._replace(active=np.zeros(missing, bool))
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), stack, last)


def initial_image(
    image: Image, hole_weight: LogLevel, signal: LogSignal, noise: Image
) -> Image:
    """Where the reverse process starts: the known pixels and noise in the hole.

    The hole's own content is not used at all (at level T1 a little of it, alpha-bar
    4e-5, would still shine through the noise); pixels of a soft mask keep theirs as
    the forward process does.
    """
    visible = jnp.where(hole_weight < 1, image, 0.0)
    return gaussian.forward_marginal(visible, log_level(signal, hole_weight), noise)


def sample(
    denoise: Denoiser,
    config: SamplerConfig,
    stack: Step,
    x: Images,
    hole_weight: LogLevels,
    keys: PRNGKeys,
) -> Images:
    """Runs the reverse process over a stack of steps (RAD eq. 4), as one scan.

    Args:
      denoise: the network with its conditioning.
      config: the method.
      stack: steps with leading axis n (``grid_steps``).
      x: images at the first step's time, (b, h, w, c).
      hole_weight: of the masks, (b, h, w, 1).
      keys: a key for each image.

    Returns:
      Images at the last step's s. Where a pixel stays clean throughout, bit for bit
      the pixel of ``x``.
    """
    carry = Carry(x, jnp.zeros_like(x))
    return advance(denoise, config, stack, carry, hole_weight, keys).x


def advance(
    denoise: Denoiser,
    config: SamplerConfig,
    stack: Step,
    carry: Carry,
    hole_weight: LogLevels,
    keys: PRNGKeys,
) -> Carry:
    """``sample`` from wherever it is; over all steps in parts it is the same."""

    def of_batch(function, step: Step, *arrays):
        one_image = functools.partial(function, config, step)
        return jax.vmap(one_image)(hole_weight, *arrays)

    def one_step(carry: Carry, step: Step) -> Carry:
        x_t, shape = carry.x, carry.x.shape[1:]
        if config.method == "pc":
            noise = image_noise(keys, -1 - step.time, shape)
            x_t = of_batch(corrected, step, x_t, denoise(x_t, step), noise)
        noise = image_noise(keys, step.time, shape)
        output = denoise(x_t, step)
        x, x0 = of_batch(reverse_step, step, x_t, output, carry.x0, noise)
        if config.method == "heun":
            output = denoise(x, at_arrival(step))
            x = of_batch(second_order, step, x_t, x0, x, output)
        return Carry(x, x0)

    def body(carry: Carry, step: Step):
        carry = jax.lax.cond(step.active, one_step, lambda c, _: c, carry, step)
        return carry, None

    carry, _ = jax.lax.scan(body, carry, stack)
    return carry


def inpaint(
    denoise: Denoiser,
    config: SamplerConfig,
    stack: Step,
    start: LogSignal,
    images: Images,
    hole_weight: LogLevels,
    keys: PRNGKeys,
) -> Images:
    """Fills the holes of a batch of images: phase 1 backwards (RAD Sec. 3.2).

    Args:
      denoise: the network with its conditioning on the masks.
      config: the method.
      stack: steps from T1 to 0.
      start: levels at the grid's start.
      images: (b, h, w, c) in [-1, 1]; their holes' content is not used.
      hole_weight: of the masks, (b, h, w, 1).
      keys: a key for each image.

    Returns:
      (b, h, w, c); known pixels are bit for bit those of ``images``.
    """
    x = initial_images(images, hole_weight, start, keys)
    return sample(denoise, config, stack, x, hole_weight, keys)


def initial_images(
    images: Images, hole_weight: LogLevels, start: LogSignal, keys: PRNGKeys
) -> Images:
    """``initial_image`` of a batch, with the noise of each image's key."""
    noise = image_noise(keys, 0, images.shape[1:])
    return jax.vmap(initial_image, in_axes=(0, 0, None, 0))(
        images, hole_weight, start, noise
    )


def image_noise(keys: PRNGKeys, time, shape: tuple[int, ...]) -> Images:
    """Standard normal noise (h, w, c) of every image at a time, from its own key."""

    def draw(key):
        return jax.random.normal(jax.random.fold_in(key, time), shape)

    return jax.vmap(draw)(keys)
