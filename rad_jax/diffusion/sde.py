"""Steps of the reverse SDE and its ODE with a level for every pixel: pure functions.

The process of score-based SDEs (Song et al. 2021), in the form and under the rules of
`gaussian`: clean pixels, and those that do not move, come out as they went in, and a
pixel that arrives clean gets no noise. The score of a pixel is -eps / sqrt(bbar).
"""

import jax.numpy as jnp

from rad_jax.diffusion.gaussian import Levels, noise_from_x0, noise_variance
from rad_jax.typing import Image, LogLevel, ScalarLike


def euler_maruyama_step(x_t: Image, x0: Image, levels: Levels, noise: Image) -> Image:
    """Euler-Maruyama of the reverse VP SDE, x + b (x / 2 + score) + sqrt(b) z.

    With b = -log a_{t|s}, the integral of beta over the step.
    """
    b = -levels.delta
    mean = x_t + b * (0.5 * x_t + _score(x_t, x0, levels.t))
    return _moved(x_t, mean, b, levels, noise)


def reverse_diffusion_step(
    x_t: Image, x0: Image, levels: Levels, noise: Image
) -> Image:
    """score_sde's predictor of that name, of the VE process that is the same.

    There the drift is 0, and so nothing of it is approximated; with sigma^2 = 1 / abar
    - 1 it is x + (sigma_t^2 - sigma_s^2) score + sqrt(sigma_t^2 - sigma_s^2) z.
    """
    mean = jnp.exp(-0.5 * levels.delta) * (
        x_t + noise_variance(levels.delta) * _score(x_t, x0, levels.t)
    )
    return _moved(x_t, mean, jnp.expm1(-levels.delta), levels, noise)


def _moved(
    x_t: Image, mean: Image, variance: LogLevel, levels: Levels, noise: Image
) -> Image:
    spread = (levels.s < 0) & (levels.delta < 0)
    deviation = jnp.sqrt(jnp.where(spread, variance, 0.0))
    return jnp.where(levels.delta < 0, mean + deviation * noise, x_t)


def langevin_step(
    x: Image, x0: Image, level: LogLevel, snr: ScalarLike, noise: Image
) -> Image:
    """score_sde's corrector: one Langevin step at the levels that the pixels have.

    x + e bbar score + sqrt(2 e bbar) z, with e = 2 (snr |z| / |eps|)^2: the norms are
    those of the noisy pixels of this image, so that a step does not depend on its batch
    nor on the size of the hole. Known pixels stay, and the rest keeps its distribution
    given them, but for O(e).
    """
    noisy = level < 0
    eps = noise_from_x0(x, x0, level)
    z = jnp.where(noisy, noise, 0.0)
    length = jnp.maximum(jnp.sum(jnp.square(eps)), 1e-12)
    size = 2 * jnp.square(snr) * jnp.sum(jnp.square(z)) / length
    return along_score(x, eps, level, size, z)


def along_score(
    x: Image, eps: Image, level: LogLevel, size: ScalarLike, noise: Image
) -> Image:
    """A Langevin step of a size e (`langevin_step`)."""
    deviation = jnp.sqrt(noise_variance(level))
    moved = x + deviation * (jnp.sqrt(2 * size) * noise - size * eps)
    return jnp.where(level < 0, moved, x)


def heun_step(x_t: Image, x0: Image, x_s: Image, x0_s: Image, levels: Levels) -> Image:
    """Heun's step of the probability-flow ODE, dx / dsigma = eps (EDM, Alg. 1).

    In x / sqrt(abar) over sigma = sqrt(bbar / abar), where Euler's step is DDIM's.

    Args:
      x_t: image at t.
      x0: the clean image predicted from it.
      x_s: what Euler's step makes of it.
      x0_s: the clean image predicted from that.
      levels: of the step. A pixel that arrives clean keeps Euler's step.
    """
    both = (levels.s < 0) & (levels.delta < 0)
    slope = 0.5 * (
        noise_from_x0(x_t, x0, levels.t) + noise_from_x0(x_s, x0_s, levels.s)
    )
    sigma_t, sigma_s = (jnp.sqrt(jnp.expm1(-x)) for x in (levels.t, levels.s))
    moved = jnp.exp(-0.5 * levels.delta) * x_t
    moved = moved + jnp.exp(0.5 * levels.s) * (sigma_s - sigma_t) * slope
    return jnp.where(both, moved, x_s)


def _score(x: Image, x0: Image, level: LogLevel) -> Image:
    """Of the noisy pixels; 0 where there is no noise."""
    noisy = level < 0
    variance = jnp.where(noisy, noise_variance(level), 1.0)
    return -noise_from_x0(x, x0, level) / jnp.sqrt(variance)
