"""DeqIR's map of a whole chain, whose fixed point is the chain (Cao et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.baselines.anderson import Chains
from rad_jax.baselines.chain import Given
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Schedule, Step
from rad_jax.typing import Images


class Scales(NamedTuple):
    """Float64 scales of every step: signal after it, and those of its noise.

    Attributes:
      signal: sqrt(abar_s).
      shared: of the noise that all steps share.
      predicted: of the network's, in x_s.
      removed: of the network's, which x_0's prediction takes away.
      first: sqrt(abar) before the first step.
    """

    signal: np.ndarray
    shared: np.ndarray
    predicted: np.ndarray
    removed: np.ndarray
    first: float


def scales_of(
    schedule: Schedule, times: np.ndarray, noise_weight: float, eta: float
) -> Scales:
    """The scales of a chain; the last two are settings of `DeqIR`."""
    at, after = (schedule.signal.hole[x] for x in (times[:-1], times[1:]))
    sigma = np.sqrt(-np.expm1(after))
    return Scales(
        np.exp(0.5 * after),
        noise_weight * sigma,
        np.sqrt(1 - eta**2) * sigma,
        np.exp(0.5 * (after - at)) * np.sqrt(-np.expm1(at)),
        float(np.exp(0.5 * at[0])),
    )


def whole_chain(
    denoise: Denoiser,
    stack: Step,
    scales: Scales,
    y: Given,
    x: Images,
    shared: Images,
    chains: Chains,
) -> Chains:
    """The map whose fixed point is the chain: T evaluations in one batch."""
    b, t = chains.shape[:2]
    # 1. Predicted noise: of x_T for the first image, of the one before for the others.
    inputs = jnp.concatenate([x[:, None], chains[:, :-1]], axis=1)
    flat = inputs.reshape(b * t, *x.shape[1:])
    step = jax.tree.map(lambda a: jnp.tile(a, (b,) + (1,) * (a.ndim - 1)), stack)
    eps = denoise(flat, step)[..., : x.shape[-1]].reshape(chains.shape)

    def per_step(scale):
        return jnp.asarray(scale, x.dtype).reshape(1, t, 1, 1, 1)

    # 2. In the hole the recurrence written out: sums over the steps before.
    added = per_step((scales.predicted - scales.removed) / scales.signal) * eps
    added += per_step(scales.shared / scales.signal) * shared[:, None]
    hole = x[:, None] / scales.first + jnp.cumsum(added, axis=1)
    # 3. Where the image is known, it and the noise of the step alone.
    noisy = per_step(scales.predicted) * eps + per_step(scales.shared) * shared[:, None]
    at_known = per_step(scales.signal) * y.images[:, None] + noisy
    return jnp.where(y.known[:, None] > 0, at_known, per_step(scales.signal) * hole)
