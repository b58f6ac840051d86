"""Manifold constrained gradients (Chung et al. 2022).

Score-SDE's inpainting; in the hole each step also goes down the gradient of the error
of the known pixels, taken through the network.
"""

import dataclasses

import jax
import jax.numpy as jnp

from rad_jax.baselines.chain import (
    Filled,
    Noise,
    ancestral,
    counts,
    given,
    noised,
    paste,
    respaced_times,
)
from rad_jax.baselines.score_sde import PASTE_LEVELS
from rad_jax.diffusion.options import VARIANCES, require_one_of
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Schedule, Step, require_steps, steps
from rad_jax.typing import Images, Masks, Scalar

NORMS = ("image", "batch")


@dataclasses.dataclass(frozen=True)
class MCG:
    """Settings.

    Attributes:
      steps: of the chain.
      step_size: of the gradient of the error's norm, not squared.
      norm: of the error of each "image", or of the whole "batch" as in the official
        program, which was run on one image at a time.
      variance: of a step, as `SamplerConfig.variance`.
      paste_level: as `ScoreSDE.paste_level`.
    """

    steps: int = 1000
    step_size: float = 1.0
    norm: str = "image"
    variance: str = "learned"
    paste_level: str = "s"

    def __post_init__(self):
        """Refuses what cannot be."""
        require_one_of("norm", self.norm, NORMS)
        require_one_of("variance", self.variance, VARIANCES)
        require_one_of("paste_level", self.paste_level, PASTE_LEVELS)


PRESETS = {"published": MCG(norm="batch", paste_level="t"), "fair": MCG()}


def evaluations(schedule: Schedule, settings: MCG) -> int:
    """As `score_sde.evaluations`, without as many backward."""
    require_steps(schedule, settings.steps)
    return settings.steps


def fill(
    denoise: Denoiser,
    schedule: Schedule,
    settings: MCG,
    images: Images,
    masks: Masks,
    noise: Noise,
) -> Filled:
    """Fills holes; arguments as `score_sde.fill`, and two draws a step.

    The network's blocks should be recomputed in the backward pass
    (`UNetConfig.use_remat`), or it takes as much memory as training.
    """
    y, known = given(images, masks)

    def error(x, step: Step, z):
        """Norm of what the known pixels' prediction is off, and the step itself."""
        output = denoise(x, step)
        x_s, x0 = ancestral(settings.variance, step, x, output, z)
        squares = jnp.square(known * (y - x0))
        axes = None if settings.norm == "batch" else (1, 2, 3)
        return _norm(squares.sum(axes)).sum(), x_s

    def one_step(carry, row):
        step, number = row
        x, forward, backward = carry
        gradient, x_s = jax.grad(error, has_aux=True)(x, step, noise(number))
        x = x_s - settings.step_size * gradient  # known pixels are pasted over
        signal = step.t if settings.paste_level == "t" else step.s
        x = paste(x, noised(y, signal.hole, noise(number + 1)), known)
        return (x, forward + 1, backward + 1), None

    times = respaced_times(schedule, settings.steps)
    rows = steps(schedule, times[:-1], times[1:]), 1 + 2 * jnp.arange(settings.steps)
    start = noise(0), counts(images), counts(images)
    filled, _ = jax.lax.scan(one_step, start, rows)
    return Filled(*filled)


def _norm(squared: jax.Array) -> Scalar | jax.Array:
    """Square root whose gradient at 0 is 0: where nothing is known."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
