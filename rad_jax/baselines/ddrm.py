"""DDRM for inpainting (Kawar et al. 2022, Sec. 3).

The operator's singular vectors are single pixels and its singular values 1 or 0, so
its spectral space is the image and everything is a choice by the mask. In units of
x / sqrt(abar) with sigma_t^2 = (1 - abar_t) / abar_t.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.baselines.chain import (
    Filled,
    Noise,
    counts,
    given,
    paste,
    predict_x0,
    strided_times,
)
from rad_jax.diffusion.options import require_at_least, require_unit
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Schedule, require_steps, steps
from rad_jax.typing import Images, Masks


@dataclasses.dataclass(frozen=True)
class DDRM:
    """Settings.

    Attributes:
      steps: of the chain.
      eta: share of fresh noise, 0 to 1.
      eta_b: how much of the measurement known pixels take where they are noisier.
      sigma_0: standard deviation of noise in the known pixels, of images in [-1, 1].
      final_paste: paste the known pixels at the end. The official program compares
        sigma_t > sigma_0 where the paper has >=, and leaves the network's.
    """

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0
    sigma_0: float = 0.0
    final_paste: bool = True

    def __post_init__(self):
        """Refuses what cannot be."""
        require_unit("eta", self.eta)
        require_unit("eta_b", self.eta_b)
        require_at_least("sigma_0", self.sigma_0, 0)


PRESETS = {"published": DDRM(final_paste=False), "fair": DDRM()}


def evaluations(schedule: Schedule, settings: DDRM) -> int:
    """As `score_sde.evaluations`."""
    require_steps(schedule, settings.steps)
    return settings.steps


def fill(
    denoise: Denoiser,
    schedule: Schedule,
    settings: DDRM,
    images: Images,
    masks: Masks,
    noise: Noise,
) -> Filled:
    """Fills holes; arguments as `score_sde.fill`, masks binary, one draw a step."""
    y, known = given(images, masks)
    times = strided_times(schedule, settings.steps)
    levels = schedule.signal.hole[times]
    sigmas = np.sqrt(np.expm1(-levels))
    before = sigmas[1:] > settings.sigma_0  # the measurement is the less noisy one
    rows = (
        steps(schedule, times[:-1], times[1:]),
        np.float32(sigmas[1:]),
        np.exp(np.float32(0.5 * levels[1:])),
        before,
        sigmas[1:] < settings.sigma_0,
        1 + np.arange(settings.steps),
    )
    eta, eta_b, sigma_0 = settings.eta, settings.eta_b, settings.sigma_0
    kept = float(np.sqrt(1 - eta**2))

    def one_step(carry, row):
        x, forward = carry
        step, sigma, signal, before, after, number = row
        z = noise(number)
        eps = denoise(x, step)[..., : x.shape[-1]]
        x0 = predict_x0(x, eps, step.t.hole)
        hole = x0 + kept * sigma * eps + eta * sigma * z
        spread = jnp.sqrt(jnp.maximum(sigma**2 - (sigma_0 * eta_b) ** 2, 0.0))
        noisier = eta_b * y + (1 - eta_b) * x0 + spread * z
        towards = (y - x0) / (sigma_0 or 1.0)
        cleaner = x0 + kept * sigma * towards + eta * sigma * z
        at_known = jnp.where(before, noisier, jnp.where(after, cleaner, hole))
        return (signal * jnp.where(known > 0, at_known, hole), forward + 1), None

    first = float(sigmas[0])
    z = noise(0)
    measured = (y + float(np.sqrt(max(first**2 - sigma_0**2, 0))) * z) / first
    start = jnp.where((known > 0) & (first > sigma_0), measured, z)
    (x, forward), _ = jax.lax.scan(one_step, (start, counts(images)), rows)
    x = paste(x, images, known) if settings.final_paste else x
    return Filled(x, forward, counts(images))
