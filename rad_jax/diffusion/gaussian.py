"""Gaussian diffusion with a level for every pixel (RAD Sec. 3.1): pure functions.

Everything acts on one image and is element-wise; ``levels`` carries, for a step from t
to s < t, the logarithms of alpha-bar_t, alpha-bar_s and a_{t|s} of each pixel. With

    b_{t|s} = 1 - a_{t|s},   bbar_t = 1 - abar_t

a pixel with bbar_t = 0 is clean and one with b_{t|s} = 0 does not move: both come out
of a reverse step bit for bit as they went in. Divisions by zero are avoided on both
sides of each ``where`` so that gradients stay finite too.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rad_jax.diffusion.schedule import Step, log_level
from rad_jax.typing import Image, LogLevel, ScalarLike, Where


class Levels(NamedTuple):
    """Levels of each pixel at a step t -> s, all (h, w, 1) and <= 0.

    Attributes:
      t: log alpha-bar_t.
      s: log alpha-bar_s.
      delta: log a_{t|s}.
    """

    t: LogLevel
    s: LogLevel
    delta: LogLevel


def pixel_levels(step: Step, hole_weight: LogLevel) -> Levels:
    """Levels of one image from a step's scalars and its mask's hole weight, by (M1)."""
    return Levels(*(log_level(x, hole_weight) for x in (step.t, step.s, step.delta)))


def noise_variance(log_alpha_bar: LogLevel) -> LogLevel:
    """Noise left, bbar = 1 - abar, without cancellation near a clean pixel."""
    return -jnp.expm1(log_alpha_bar)


def forward_marginal(x0: Image, log_alpha_bar: LogLevel, noise: Image) -> Image:
    """x_t ~ q(x_t | x_0) for given standard normal noise (RAD eq. 3)."""
    signal = jnp.exp(0.5 * log_alpha_bar)
    return signal * x0 + jnp.sqrt(noise_variance(log_alpha_bar)) * noise


def velocity(x0: Image, noise: Image, log_alpha_bar: LogLevel) -> Image:
    """Velocity v = sqrt(abar) eps - sqrt(bbar) x_0 (Salimans & Ho 2022, App. D)."""
    noise_scale = jnp.sqrt(noise_variance(log_alpha_bar))
    return jnp.exp(0.5 * log_alpha_bar) * noise - noise_scale * x0


MOST_GAIN = 10.0
"""Of "eps_as_v" and "score_as_v". By a network of noise v = (eps - sqrt(bbar) x_t) /
sqrt(abar) exactly, which at T1 makes errors of eps 157 times as large: no training in
few steps gets over that. So the gain 1 / sqrt(abar) ends here, and the student is its
teacher where sqrt(abar) >= 1 / MOST_GAIN; above it begins nearer to v = 0, and learns.
"""


def predict_x0(
    x_t: Image, prediction: Image, log_alpha_bar: LogLevel, parametrisation: str
) -> Image:
    """Clean image that a prediction stands for (`options.PARAMETRISATIONS`).

    A clean pixel is its own prediction.
    """
    signal = jnp.exp(0.5 * log_alpha_bar)
    noise_scale = jnp.sqrt(noise_variance(log_alpha_bar))
    if parametrisation in ("eps_as_v", "score_as_v"):
        noise = prediction if parametrisation == "eps_as_v" else -prediction
        gain = jnp.exp(jnp.minimum(-0.5 * log_alpha_bar, jnp.log(MOST_GAIN)))
        prediction, parametrisation = gain * (noise - noise_scale * x_t), "v"
    if parametrisation == "v":
        x0 = signal * x_t - noise_scale * prediction
    elif parametrisation == "x0":
        x0 = prediction
    elif parametrisation == "score":
        x0 = (x_t + noise_scale * prediction) / signal
    else:
        x0 = (x_t - noise_scale * prediction) / signal
    return jnp.where(log_alpha_bar < 0, x0, x_t)


def predict_noise(
    x_t: Image, prediction: Image, log_alpha_bar: LogLevel, parametrisation: str
) -> Image:
    """Noise that a prediction stands for (`options.PARAMETRISATIONS`)."""
    if parametrisation == "v":
        noise_scale = jnp.sqrt(noise_variance(log_alpha_bar))
        return noise_scale * x_t + jnp.exp(0.5 * log_alpha_bar) * prediction
    if parametrisation in ("x0", "eps_as_v", "score_as_v"):
        x0 = predict_x0(x_t, prediction, log_alpha_bar, parametrisation)
        return noise_from_x0(x_t, x0, log_alpha_bar)
    return -prediction if parametrisation == "score" else prediction


def target(
    x0: Image, noise: Image, log_alpha_bar: LogLevel, parametrisation: str
) -> Image:
    """What the network should predict.

    Of "eps_as_v" and "score_as_v" what it did before: exact up to `MOST_GAIN`.
    """
    if parametrisation == "v":
        return velocity(x0, noise, log_alpha_bar)
    if parametrisation == "x0":
        return x0
    return -noise if parametrisation in ("score", "score_as_v") else noise


def noise_from_x0(x_t: Image, x0: Image, log_alpha_bar: LogLevel) -> Image:
    """Noise (x_t - sqrt(abar) x_0) / sqrt(bbar), 0 at a clean pixel (RAD eq. 3)."""
    noisy = log_alpha_bar < 0
    variance = jnp.where(noisy, noise_variance(log_alpha_bar), 1.0)
    noise = (x_t - jnp.exp(0.5 * log_alpha_bar) * x0) / jnp.sqrt(variance)
    return jnp.where(noisy, noise, 0.0)


def posterior_mean(x0: Image, x_t: Image, levels: Levels) -> Image:
    """Mean of q(x_s | x_t, x_0) between any two times (DDPM eq. 7, per pixel).

    Where bbar_t = 0 it is x_t (RAD, text after eq. 5).
    """
    noisy = levels.t < 0
    variance_t = jnp.where(noisy, noise_variance(levels.t), 1.0)
    of_x0 = jnp.exp(0.5 * levels.s) * noise_variance(levels.delta) / variance_t
    of_x_t = jnp.exp(0.5 * levels.delta) * noise_variance(levels.s) / variance_t
    moves = noisy & (levels.delta < 0)
    return jnp.where(moves, of_x0 * x0 + of_x_t * x_t, x_t)


def posterior_variance(levels: Levels) -> LogLevel:
    """Variance of q(x_s | x_t, x_0): b_{t|s} bbar_s / bbar_t, 0 at a clean pixel."""
    noisy = levels.t < 0
    variance_t = jnp.where(noisy, noise_variance(levels.t), 1.0)
    variance = noise_variance(levels.delta) * noise_variance(levels.s) / variance_t
    return jnp.where(noisy, variance, 0.0)


def log_variance_range(
    levels: Levels, variance_floor: ScalarLike
) -> tuple[LogLevel, LogLevel]:
    """Ends of the learned range, log btilde_{t|s} and log b_{t|s} (iDDPM eq. 15).

    In a pixel's first noising step btilde is 0; as in ADM the second step's takes its
    place, which is ``variance_floor`` relative to b (see ``schedule.Step``). Where the
    pixel does not move both ends are 0 and mean nothing.
    """
    moves = levels.delta < 0
    log_b = jnp.log(jnp.where(moves, noise_variance(levels.delta), 1.0))
    variance = posterior_variance(levels)
    log_posterior = jnp.where(
        variance > 0,
        jnp.log(jnp.where(variance > 0, variance, 1.0)),
        log_b + variance_floor,
    )
    return jnp.where(moves, log_posterior, 0.0), log_b


def learned_log_variance(
    output: Image, levels: Levels, variance_floor: ScalarLike
) -> Image:
    """Log-variance from the network's last channels v (iDDPM eq. 15; f = (v+1)/2)."""
    low, high = log_variance_range(levels, variance_floor)
    fraction = (output + 1) / 2
    return fraction * high + (1 - fraction) * low


def ancestral_step(
    x_t: Image, x0: Image, levels: Levels, log_variance: Image | LogLevel, noise: Image
) -> Image:
    """DDPM's reverse step (RAD eq. 4, per pixel): a sample of p(x_s | x_t).

    A pixel that arrives clean (bbar_s = 0) gets no noise, as DDPM does at t = 0.
    """
    mean = posterior_mean(x0, x_t, levels)
    spread = (levels.s < 0) & (levels.delta < 0)
    deviation = jnp.exp(0.5 * jnp.where(spread, log_variance, 0.0))
    return jnp.where(spread, mean + deviation * noise, mean)


def ddim_step(
    x_t: Image, x0: Image, levels: Levels, eta: ScalarLike, noise: Image
) -> Image:
    """DDIM's reverse step (DDIM eq. 12, per pixel); eta = 0 is deterministic."""
    predicted = noise_from_x0(x_t, x0, levels.t)
    variance = jnp.square(eta) * posterior_variance(levels)
    kept = jnp.maximum(noise_variance(levels.s) - variance, 0.0)
    x_s = jnp.exp(0.5 * levels.s) * x0 + safe_sqrt(kept) * predicted
    x_s = x_s + safe_sqrt(variance) * noise
    return jnp.where(levels.delta < 0, x_s, x_t)


def renoise_step(x_t: Image, x0: Image, levels: Levels, noise: Image) -> Image:
    """The clean image noised to s, whatever x_t is (Song et al. 2023, Alg. 1)."""
    return jnp.where(levels.delta < 0, forward_marginal(x0, levels.s, noise), x_t)


def dpm_solver_step(
    x_t: Image, x0: Image, previous_x0: Image, levels: Levels, previous: LogLevel
) -> Image:
    """DPM-Solver++(2M)'s step (Lu et al. 2022, Alg. 2), per-pixel log-SNR.

    With lambda = log(sqrt(abar) / sqrt(bbar)) and h = lambda_s - lambda_t the data
    prediction is extrapolated from the step before, which began at the level
    ``previous``. First order where there is no step before, where the pixel did not
    move in it, and where the pixel arrives clean (h is infinite).

    Args:
      x_t: image at t.
      x0: its prediction of the clean image.
      previous_x0: the prediction at the time before t; any value in the first step.
      levels: levels of this step.
      previous: log alpha-bar at the time before t; that at t in the first step.
    """
    noisy = levels.t < 0
    second = noisy & (levels.s < 0) & (previous < levels.t)
    h = _half_log_snr(levels.s, second) - _half_log_snr(levels.t, second)
    h_before = _half_log_snr(levels.t, second) - _half_log_snr(previous, second)
    weight = jnp.where(second, h / jnp.where(second, 2 * h_before, 1.0), 0.0)
    target = x0 + weight * (x0 - previous_x0)
    variance_t = jnp.where(noisy, noise_variance(levels.t), 1.0)
    kept = safe_sqrt(noise_variance(levels.s) / variance_t)  # sigma_s / sigma_t
    # alpha_s (1 - exp(-h)) = alpha_s - alpha_t sigma_s / sigma_t
    pull = jnp.exp(0.5 * levels.s) - jnp.exp(0.5 * levels.t) * kept
    return jnp.where(levels.delta < 0, kept * x_t + pull * target, x_t)


def _half_log_snr(log_alpha_bar: LogLevel, where: Where) -> LogLevel:
    safe = jnp.where(where, log_alpha_bar, -1.0)
    return 0.5 * (safe - jnp.log(noise_variance(safe)))


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Square root whose gradient at 0 is 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
