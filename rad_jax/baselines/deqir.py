"""DeqIR (Cao et al. 2024): DDNM's chain as one fixed point.

All T images of the chain are solved for at once: T network evaluations a pass in one
batch, accelerated by Anderson. Its fixed point is that of the serial recurrence (DDNM
with one noise image for all steps), which gives it exactly in T evaluations.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.baselines.anderson import Chains, accelerate
from rad_jax.baselines.chain import (
    Filled,
    Given,
    Noise,
    counts,
    given,
    paste,
    strided_times,
)
from rad_jax.baselines.whole_chain import Scales, scales_of, whole_chain
from rad_jax.diffusion.options import require_at_least, require_one_of, require_unit
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Schedule, steps
from rad_jax.errors import UserError
from rad_jax.typing import Images, Masks

SOLVERS = ("anderson", "serial")


@dataclasses.dataclass(frozen=True)
class DeqIR:
    """Settings.

    Attributes:
      steps: T.
      solver: "anderson", in parallel and not to the end; "serial", exact.
      max_passes: of "anderson", T evaluations each; at least 2.
      memory: of "anderson": passes that it looks back on.
      noise_weight: scale of the shared noise.
      eta: share of noise that predicted noise loses.
    """

    steps: int = 25
    solver: str = "serial"
    max_passes: int = 15
    memory: int = 5
    noise_weight: float = 0.0
    eta: float = 0.0

    def __post_init__(self):
        """Refuses what cannot be."""
        require_one_of("solver", self.solver, SOLVERS)
        require_unit("eta", self.eta)
        require_at_least("max_passes", self.max_passes, 2)
        require_at_least("memory", self.memory, 1)


PRESETS = {"published": DeqIR(solver="anderson"), "fair": DeqIR()}


def chain_times(schedule: Schedule, num_steps: int) -> np.ndarray:
    """`strided_times`, or UserError where the official rule leaves not as many.

    Its stride is a whole number, and the largest timestep is dropped once.
    """
    times = strided_times(schedule, num_steps)
    last = schedule.config.hole_steps
    made = -(-last // (last // num_steps)) - (last % num_steps > 0)
    if made != num_steps:
        raise UserError(
            f"deqir cannot take {num_steps} of {last} steps: its stride of "
            f"{last // num_steps} makes {made}; use {made}"
        )
    return times


def evaluations(schedule: Schedule, settings: DeqIR) -> int:
    """As `score_sde.evaluations`; of "anderson" at most."""
    chain_times(schedule, settings.steps)
    passes = settings.max_passes if settings.solver == "anderson" else 1
    return settings.steps * passes


def fill(
    denoise: Denoiser,
    schedule: Schedule,
    settings: DeqIR,
    images: Images,
    masks: Masks,
    noise: Noise,
) -> Filled:
    """Fills holes; arguments as `score_sde.fill`, masks binary, two draws in all.

    "anderson" gives ``denoise`` the T images of each image one after the other, in one
    batch, and a step whose fields have one entry for each. Images are solved apart.
    """
    times = chain_times(schedule, settings.steps)
    stack = steps(schedule, times[:-1], times[1:])
    weights = settings.noise_weight, settings.eta
    scales = scales_of(schedule, times, *weights)
    known = given(images, masks)
    solve = _serial if settings.solver == "serial" else _anderson
    x, forward = solve(denoise, settings, stack, scales, known, noise(0), noise(1))
    return Filled(paste(x, images, known.known), forward, counts(images))


def _serial(denoise, settings: DeqIR, stack, scales: Scales, y: Given, x, shared):
    """The recurrence, step by step."""
    del settings
    # sqrt(abar_s / abar_t): what a step keeps of x in the hole.
    kept = scales.signal / np.append(scales.first, scales.signal[:-1])
    of_each = (kept, scales.signal, scales.shared, scales.predicted, scales.removed)
    rows = jax.tree.map(lambda scale: jnp.asarray(scale, x.dtype), of_each)

    def one_step(carry, row):
        x, forward = carry
        step, (keep, signal, of_shared, predicted, removed) = row
        eps = denoise(x, step)[..., : x.shape[-1]]
        hole = keep * x - removed * eps
        clean = jnp.where(y.known > 0, signal * y.images, hole)
        return (clean + of_shared * shared + predicted * eps, forward + 1), None

    (x, forward), _ = jax.lax.scan(one_step, (x, counts(x)), (stack, rows))
    return x, forward


def _anderson(denoise, settings: DeqIR, stack, scales: Scales, y: Given, x, shared):
    """The whole chain at once, which begins as the first image throughout."""

    def sweep(chains: Chains) -> Chains:
        return whole_chain(denoise, stack, scales, y, x, shared, chains)

    start = jnp.repeat(x[:, None], settings.steps, axis=1)
    found = accelerate(
        sweep, start, memory=settings.memory, max_passes=settings.max_passes
    )
    return found.latest[:, -1], found.passes * settings.steps
