"""What the comparison methods share: ADM's chain of one level, noise, the result.

They fill holes with a plain ADM, which is told one timestep for the whole image. Time
counts noising steps as everywhere (`rad_jax.typing`): ADM's timestep k is time k + 1.
A level is that of a hole pixel of our schedule, which is DDPM's.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rad_jax.diffusion import gaussian
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.respacing import respaced_grid
from rad_jax.diffusion.sampling import image_noise, reverse_step
from rad_jax.diffusion.schedule import Schedule, Step, require_steps
from rad_jax.typing import Images, Masks, Outputs, PRNGKeys

Noise = Callable[[Any], Images]
"""``noise(number)``: the draw of that number of a run, standard normal, for a batch.

Numbers follow the order in which the official programs draw, so that their recorded
noise can stand in for ours. They may be traced.
"""

Level = Float[Array, ""] | np.ndarray | np.floating | float
"""Log alpha-bar of a whole image, or of a step."""


class Filled(NamedTuple):
    """What a method makes of a batch.

    Attributes:
      images: (b, h, w, c).
      forward: evaluations of the network that each image took, counted as they are
        made.
      backward: evaluations of its gradient.
    """

    images: Images
    forward: Int[Array, " b"] | Int[np.ndarray, " b"]
    backward: Int[Array, " b"] | Int[np.ndarray, " b"]


class Given(NamedTuple):
    """What a method knows.

    Attributes:
      images: with zeros in the hole, whose content is used nowhere.
      known: 1 where the image is known, 0 in the hole; between in soft masks.
    """

    images: Images
    known: Float[Array, "b h w 1"]


def noise_from(keys: PRNGKeys, shape: tuple[int, ...]) -> Noise:
    """Noise (h, w, c) from each image's own key, whatever else is in its batch."""
    return lambda number: image_noise(keys, number, shape)


def given(images: Images, masks: Masks) -> Given:
    """What is known of images under masks (1 in the hole)."""
    hole = masks[..., None].astype(images.dtype)
    return Given(jnp.where(hole < 1, images, 0.0), 1 - hole)


def paste(over: Images, images: Images, known: Float[Array, "b h w 1"]) -> Images:
    """Images where they are known, over others; bit for bit where a mask is 0 or 1."""
    mixed = known * images + (1 - known) * over
    return jnp.where(known == 1, images, jnp.where(known == 0, over, mixed))


def counts(images: Images) -> Int[Array, " b"]:
    """No evaluations yet."""
    return jnp.zeros(len(images), jnp.int32)


def level_like(level: Level, images: Images) -> Float[Array, "h w 1"]:
    """One level as a map, which the functions of `gaussian` take."""
    return jnp.full((*images.shape[1:3], 1), level, images.dtype)


def noised(images: Images, level: Level, noise: Images) -> Images:
    """A sample of q(x_t | x_0) of every image (DDPM eq. 4)."""
    forward = functools.partial(
        gaussian.forward_marginal, log_alpha_bar=level_like(level, images)
    )
    return jax.vmap(lambda image, z: forward(image, noise=z))(images, noise)


def predict_x0(x: Images, noise: Images, level: Level) -> Images:
    """The clean image of a predicted noise, not clipped."""
    whole = level_like(level, x)
    return jax.vmap(lambda a, b: gaussian.predict_x0(a, b, whole, "eps"))(x, noise)


def ancestral(
    variance: str, step: Step, x: Images, output: Outputs, noise: Images
) -> tuple[Images, Images]:
    """ADM's reverse step, x_0 clipped: x_s and the predicted x_0 (DDPM eq. 7)."""
    whole = jnp.ones((*x.shape[1:3], 1), x.dtype)
    one = functools.partial(reverse_step, SamplerConfig(variance=variance), step, whole)
    return jax.vmap(lambda x, out, z: one(x, out, jnp.zeros_like(x), z))(
        x, output, noise
    )


def respaced_times(schedule: Schedule, steps: int) -> np.ndarray:
    """Falling times of guided-diffusion's respacing to so many steps, then 0.

    Raises:
      UserError: the schedule has fewer.
    """
    require_steps(schedule, steps)
    return respaced_grid(schedule.config.hole_steps, str(steps)).times


def strided_times(schedule: Schedule, steps: int) -> np.ndarray:
    """Falling times of DDRM, DDNM and DeqIR: so many at one whole stride, then 0.

    They start at a multiple of the stride: 20 steps of 1000 at timestep 950.
    """
    require_steps(schedule, steps)
    stride = schedule.config.hole_steps // steps
    return np.append(stride * np.arange(steps - 1, -1, -1) + 1, 0)
