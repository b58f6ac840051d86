"""Score-SDE's inpainting on a discrete ADM (Song et al. 2021, App. I.2).

The ancestral chain over all pixels; after every step the known ones are replaced by
the image, noised. As the paper's comparison ran it: the form that MCG's authors call
"vanilla" (Chung et al. 2022).
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Int

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
from rad_jax.diffusion.options import VARIANCES, require_at_least, require_one_of
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Schedule, Step, require_steps, steps
from rad_jax.typing import Images, Masks

PASTE_LEVELS = ("t", "s")


@dataclasses.dataclass(frozen=True)
class ScoreSDE:
    """Settings.

    Attributes:
      steps: of the chain.
      variance: of a step, as `SamplerConfig.variance`.
      paste_level: noise of known pixels after a step t -> s: "t", which leaves noise
        of variance 1e-4 on them at the end, or "s", which leaves none.
      redraws: times that a step is drawn, of which the last counts. 20 is the form of
        RePaint in MCG's program, whose repeats all start from the same x_t.
    """

    steps: int = 1000
    variance: str = "learned"
    paste_level: str = "s"
    redraws: int = 1

    def __post_init__(self):
        """Refuses what cannot be."""
        require_one_of("variance", self.variance, VARIANCES)
        require_one_of("paste_level", self.paste_level, PASTE_LEVELS)
        require_at_least("redraws", self.redraws, 1)


PRESETS = {"published": ScoreSDE(paste_level="t"), "fair": ScoreSDE()}


def evaluations(schedule: Schedule, settings: ScoreSDE) -> int:
    """Network evaluations that an image takes.

    Raises:
      UserError: the schedule has not as many steps.
    """
    require_steps(schedule, settings.steps)
    return settings.steps * settings.redraws


class Draw(NamedTuple):
    """A network evaluation, as data: its step, whether x_t is new, its first noise."""

    step: Step
    new: Bool[Array, "*n"] | np.ndarray
    number: Int[Array, "*n"] | np.ndarray


def fill(
    denoise: Denoiser,
    schedule: Schedule,
    settings: ScoreSDE,
    images: Images,
    masks: Masks,
    noise: Noise,
) -> Filled:
    """Fills holes.

    Args:
      denoise: a plain ADM.
      schedule: its noise, that of hole pixels.
      settings: of the method.
      images: (b, h, w, c) in [-1, 1]; their holes' content is not used.
      masks: (b, h, w), 1 in the hole; soft ones mix.
      noise: draw 0 is where it starts; each drawing of a step has two.

    Raises:
      UserError: the schedule has not as many steps.
    """
    y, known = given(images, masks)

    def one_draw(carry, draw: Draw):
        x_t, x, forward = carry
        x_t = jax.lax.select(draw.new, x, x_t)
        output = denoise(x_t, draw.step)
        x, _ = ancestral(settings.variance, draw.step, x_t, output, noise(draw.number))
        signal = draw.step.t if settings.paste_level == "t" else draw.step.s
        x = paste(x, noised(y, signal.hole, noise(draw.number + 1)), known)
        return (x_t, x, forward + 1), None

    start = noise(0)
    (_, x, forward), _ = jax.lax.scan(
        one_draw, (start, start, counts(images)), draws(schedule, settings)
    )
    return Filled(x, forward, counts(images))


def draws(schedule: Schedule, settings: ScoreSDE) -> Draw:
    """All evaluations, in order."""
    times, repeats = respaced_times(schedule, settings.steps), settings.redraws
    row, repeat = np.divmod(np.arange(settings.steps * repeats), repeats)
    # MCG's program draws three a repeat, the first of which has no effect.
    number = 1 + row * (3 * repeats - 1) + 3 * repeat
    stack = steps(schedule, times[row], times[row + 1])
    return Draw(stack, repeat == 0, number.astype(np.int32))
