"""DDNM and DDNM+ for inpainting (Wang et al. 2023, Alg. 1 and 2).

The predicted clean image is replaced by what is known where it is known (its range
space), and kept in the hole (the null space). As in the authors' SVD path.
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
    counts,
    given,
    noised,
    paste,
    predict_x0,
    strided_times,
)
from rad_jax.diffusion.options import require_at_least, require_unit
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Schedule, Step, require_steps
from rad_jax.typing import Images, Masks


@dataclasses.dataclass(frozen=True)
class DDNM:
    """Settings.

    Attributes:
      steps: of the chain.
      eta: share of fresh noise, 0 to 1.
      travel_length: steps back of a time travel; l of the paper.
      travel_repeat: times that each part is gone through, 1 for no travel; r.
      sigma_y: standard deviation of noise in the known pixels, of images in [-1, 1];
        above 0 it is DDNM+.
      final_paste: paste the known pixels at the end, which without sigma_y they are.
    """

    steps: int = 100
    eta: float = 0.85
    travel_length: int = 1
    travel_repeat: int = 1
    sigma_y: float = 0.0
    final_paste: bool = True

    def __post_init__(self):
        """Refuses what cannot be."""
        require_unit("eta", self.eta)
        require_at_least("sigma_y", self.sigma_y, 0)
        require_at_least("travel_length", self.travel_length, 1)
        require_at_least("travel_repeat", self.travel_repeat, 1)


PRESETS = {"published": DDNM(final_paste=False), "fair": DDNM()}


def evaluations(schedule: Schedule, settings: DDNM) -> int:
    """As `score_sde.evaluations`."""
    require_steps(schedule, settings.steps)
    travel = settings.travel_length, settings.travel_repeat
    return jumps.evaluations(settings.steps, travel)


class Move(NamedTuple):
    """A step, as data: its times, whether it travels back, its number.

    The other arrays are of DDNM+'s known pixels: how far they go to what is known, and
    their scales of fresh and of predicted noise.
    """

    step: Step
    up: np.ndarray
    number: np.ndarray
    share: np.ndarray
    fresh: np.ndarray
    predicted: np.ndarray


def fill(
    denoise: Denoiser,
    schedule: Schedule,
    settings: DDNM,
    images: Images,
    masks: Masks,
    noise: Noise,
) -> Filled:
    """Fills holes; arguments as `score_sde.fill`, masks binary, one draw a step."""
    y, known = given(images, masks)
    eta, kept = settings.eta, float(np.sqrt(1 - settings.eta**2))

    def down(x, _, count, move: Move):
        eps = denoise(x, move.step)[..., : x.shape[-1]]
        x0 = predict_x0(x, eps, move.step.t.hole)
        nearer = jnp.where(move.share == 1, y, x0 + move.share * (y - x0))
        corrected = jnp.where(known > 0, nearer, x0)
        sigma = jnp.sqrt(-jnp.expm1(move.step.s.hole))
        z = noise(move.number)
        added = jnp.where(
            known > 0,
            move.fresh * z + move.predicted * eps,
            sigma * (eta * z + kept * eps),
        )
        return jnp.exp(0.5 * move.step.s.hole) * corrected + added, x0, count + 1

    def up(_, x0, count, move: Move):
        return noised(x0, move.step.t.hole, noise(move.number)), x0, count

    def one_move(carry, move: Move):
        return jax.lax.cond(move.up, up, down, *carry, move), None

    start = noise(0)
    start = start, jnp.zeros_like(start), counts(images)
    (x, _, count), _ = jax.lax.scan(one_move, start, moves(schedule, settings))
    x = paste(x, images, known) if settings.final_paste else x
    return Filled(x, count, jnp.zeros_like(count))


def moves(schedule: Schedule, settings: DDNM) -> Move:
    """All steps, in order."""
    times = strided_times(schedule, settings.steps)
    travel = settings.travel_length, settings.travel_repeat
    stack, up = jumps.jumping_steps(schedule, times, travel)
    level = np.float64(stack.s.hole)
    sigma, measured = np.sqrt(-np.expm1(level)), np.exp(0.5 * level) * settings.sigma_y
    eta, kept = settings.eta, np.sqrt(1 - settings.eta**2)
    share, fresh, predicted = np.ones_like(sigma), eta * sigma, kept * sigma
    if settings.sigma_y:
        less = sigma < measured  # noise left is less than that of what is measured
        share = np.where(less, sigma * kept / measured, 1.0)
        spread = np.sqrt(np.maximum(sigma**2 - measured**2, 0.0))
        fresh, predicted = np.where(less, eta * sigma, spread), np.zeros_like(sigma)
    numbers = 1 + np.arange(len(up), dtype=np.int32)
    scales = (x.astype(np.float32) for x in (share, fresh, predicted))
    return Move(stack, up, numbers, *scales)
