"""Exactly what a sampler makes of Gaussian data with the ideal denoiser.

Every sampler is then affine in the image and in the noise, so the mean and covariance
of its results follow from its steps (`reverse.reverse_step`, differentiated), without
a sample, and can be held against the exact conditional distribution.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.diffusion import reverse, sampling
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import (
    LogSignal,
    Step,
    make_schedule,
    mask_to_hole_weight,
)
from rad_jax.diffusion.schedule_config import ScheduleConfig
from tests.oracles import Gaussian, oracle_denoiser

SCHEDULE = make_schedule(ScheduleConfig())


class Moments(NamedTuple):
    """Of what a sampler makes; the covariance is the same for all given images.

    Attributes:
      mean: (pixels, given images).
      covariance: (pixels, pixels).
    """

    mean: np.ndarray
    covariance: np.ndarray


def propagate(
    gaussian: Gaussian,
    mask: np.ndarray,
    config: SamplerConfig,
    grid: sampling.Grid,
    images: np.ndarray,
) -> Moments:
    """Exact mean and covariance of `sampling.inpaint` with the ideal denoiser.

    Args:
      gaussian: of the data.
      mask: (h, w).
      config: the sampler, without clipping, which is not affine.
      grid: the times.
      images: (given images, h * w); the holes' content is not used.
    """
    hole_weight = mask_to_hole_weight(SCHEDULE, jnp.float32(mask))
    size = mask.size
    start = LogSignal(*(np.float32(x[grid.start]) for x in SCHEDULE.signal))
    zero = jnp.zeros(hole_weight.shape)

    def begin(image, noise):
        return sampling.initial_image(image, hole_weight, start, noise)

    of_image, of_noise = (
        np.float64(x).reshape(size, size)
        for x in jax.jacfwd(begin, argnums=(0, 1))(zero, zero)
    )  # it has no constant part
    # The state is x_t and, for multistep solvers, the last prediction of x_0.
    mean = np.zeros((2 * size, len(images)))
    mean[:size] = of_image @ images.T
    covariance = np.zeros((2 * size, 2 * size))
    covariance[:size, :size] = of_noise @ of_noise.T

    denoise = oracle_denoiser(gaussian, SCHEDULE, mask, grid.times)
    stack = sampling.grid_steps(SCHEDULE, grid)
    with jax.default_matmul_precision("highest"):
        shifts, of_states, of_noises = _linearised(denoise, config, stack, hole_weight)
    for shift, of_state, of_noise in zip(shifts, of_states, of_noises, strict=True):
        mean = of_state @ mean + shift[:, None]
        covariance = of_state @ covariance @ of_state.T + of_noise @ of_noise.T
    return Moments(mean[:size], covariance[:size, :size])


def _linearised(
    denoise: Denoiser, config: SamplerConfig, stack: Step, hole_weight: jax.Array
) -> tuple[np.ndarray, ...]:
    """Every step as state -> shift + of_state @ state + of_noise @ noise, float64."""
    zero = jnp.zeros(hole_weight.shape)

    def advance(step, x, previous_x0, noise):
        output = denoise(x[None], step)[0]
        new = reverse.reverse_step(
            config, step, hole_weight, x, output, previous_x0, noise
        )
        return jnp.stack(new)

    def one(step):
        derivatives = jax.jacfwd(advance, argnums=(1, 2, 3))(step, zero, zero, zero)
        return advance(step, zero, zero, zero), *derivatives

    size, n = hole_weight.size, len(stack.time)
    shift, of_x, of_previous, of_noise = (np.float64(x) for x in jax.vmap(one)(stack))
    of_x, of_previous, of_noise = (
        x.reshape(n, 2 * size, size) for x in (of_x, of_previous, of_noise)
    )
    of_state = np.concatenate([of_x, of_previous], -1)
    return shift.reshape(n, 2 * size), of_state, of_noise


def oracle_error(
    gaussian: Gaussian, mask: np.ndarray, config: SamplerConfig, grid: sampling.Grid
) -> float:
    """2-Wasserstein distance to the exact conditional, relative to its spread.

    Root mean square over the data. Means are affine in the known pixels, so that takes
    no random images: the mean one, and it moved along each of the covariance's factors.
    """
    hole = mask.ravel() > 0
    factors = np.linalg.cholesky(gaussian.covariance).T
    images = gaussian.mean + np.concatenate([np.zeros_like(factors[:1]), factors])
    made = propagate(gaussian, mask, config, grid, images)
    exact = [gaussian.conditional(~hole, image[~hole]) for image in images]
    covariance = exact[0][1]
    off = made.mean[hole] - np.stack([mean for mean, _ in exact], -1)
    off[:, 1:] -= off[:, :1]
    squared = np.sum(off**2) + bures(made.covariance[np.ix_(hole, hole)], covariance)
    return float(np.sqrt(squared / np.trace(covariance)))


def bures(a: np.ndarray, b: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of two Gaussians of one mean."""
    root = _root(a)
    return max(0.0, float(np.trace(a + b - 2 * _root(root @ b @ root))))


def _root(matrix: np.ndarray) -> np.ndarray:
    """Of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
