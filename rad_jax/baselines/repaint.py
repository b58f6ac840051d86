"""RePaint (Lugmayr et al. 2022, Alg. 1): the chain goes back and forth.

Known pixels are injected, noised, before each reverse step; jumps of several noising
steps let the hole follow them. The order of steps is data.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.baselines import jumps
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
from rad_jax.baselines.score_sde import ScoreSDE
from rad_jax.diffusion.options import VARIANCES, require_at_least, require_one_of
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Schedule, Step, require_steps
from rad_jax.typing import Images, Masks


@dataclasses.dataclass(frozen=True)
class RePaint:
    """Settings.

    Attributes:
      steps: of the respaced chain.
      jump_length: noising steps of a jump; j of the paper.
      jump_samples: times that each part of the chain is gone through; r of the paper.
      variance: of a step, as `SamplerConfig.variance`.
      final_paste: paste the known pixels at the end, as Alg. 1 implies; the official
        program leaves the network's.
    """

    steps: int = 250
    jump_length: int = 10
    jump_samples: int = 10
    variance: str = "learned"
    final_paste: bool = True

    def __post_init__(self):
        """Refuses what cannot be."""
        require_one_of("variance", self.variance, VARIANCES)
        require_at_least("jump_length", self.jump_length, 1)
        require_at_least("jump_samples", self.jump_samples, 1)


PRESETS = {
    "published": RePaint(final_paste=False),
    "fair": RePaint(),
    # What 20 times Score-SDE's seconds in RAD's Table 2 can only be.
    "mcg": ScoreSDE(paste_level="t", redraws=20),
}


def evaluations(schedule: Schedule, settings: RePaint) -> int:
    """As `score_sde.evaluations`."""
    require_steps(schedule, settings.steps)
    jump = settings.jump_length, settings.jump_samples
    return jumps.evaluations(settings.steps, jump)


class Move(NamedTuple):
    """A denoising or a noising step, as data.

    Attributes:
      step: between the higher time t and the lower s.
      up: whether it adds noise.
      inject: whether known pixels are injected before; all denoising but the first.
      number: of its first draw.
    """

    step: Step
    up: np.ndarray
    inject: np.ndarray
    number: np.ndarray


def fill(
    denoise: Denoiser,
    schedule: Schedule,
    settings: RePaint,
    images: Images,
    masks: Masks,
    noise: Noise,
) -> Filled:
    """Fills holes; arguments as `score_sde.fill`."""
    y, known = given(images, masks)

    def down(x, count, move: Move):
        injected = paste(x, noised(y, move.step.t.hole, noise(move.number + 1)), known)
        x = jax.lax.select(move.inject, injected, x)
        output = denoise(x, move.step)
        x, _ = ancestral(settings.variance, move.step, x, output, noise(move.number))
        return x, count + 1

    def up(x, count, move: Move):
        return noised(x, move.step.delta.hole, noise(move.number)), count

    def one_move(carry, move: Move):
        return jax.lax.cond(move.up, up, down, *carry, move), None

    (x, count), _ = jax.lax.scan(
        one_move, (noise(0), counts(images)), moves(schedule, settings)
    )
    x = paste(x, images, known) if settings.final_paste else x
    return Filled(x, count, jnp.zeros_like(count))


def moves(schedule: Schedule, settings: RePaint) -> Move:
    """All steps, in order."""
    times = respaced_times(schedule, settings.steps)
    jump = settings.jump_length, settings.jump_samples
    stack, up = jumps.jumping_steps(schedule, times, jump)
    inject = ~up & (np.cumsum(~up) > 1)
    number = 1 + np.cumsum(1 + inject) - (1 + inject)
    return Move(stack, up, inject, number.astype(np.int32))
