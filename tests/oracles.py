"""The ideal denoiser of a Gaussian data set, in closed form for any noise map.

For x_0 ~ N(mu, Sigma) and x_t = A x_0 + B eps with diagonal A = sqrt(abar) and
B = sqrt(bbar):

    E[x_0 | x_t] = mu + Sigma A (A Sigma A + B^2)^-1 (x_t - A mu)

so the whole RAD sampler can be held against the exact conditional distribution
(the idea of an exact score as an oracle: EDM2's toy example).
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.diffusion import schedule as sch
from rad_jax.models import convolution, layers


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """x_0 ~ N(mean, covariance) over the n pixels of an image of one channel."""

    mean: np.ndarray
    covariance: np.ndarray

    def posterior(self, log_alpha_bar):
        """Affine map x_t -> E[x_0 | x_t], and Cov[x_0 | x_t], float64."""
        a = np.exp(0.5 * log_alpha_bar)
        noise = np.diag(-np.expm1(log_alpha_bar))
        total = a[:, None] * self.covariance * a + noise
        gain = np.linalg.solve(total.T, a[:, None] * self.covariance).T
        offset = self.mean - gain @ (a * self.mean)
        return gain, offset, self.covariance - gain @ (a[:, None] * self.covariance)

    def conditional(self, known, values):
        """Mean and covariance of the other pixels given the known ones."""
        hole = ~known
        gain = np.linalg.solve(
            self.covariance[np.ix_(known, known)],
            self.covariance[np.ix_(known, hole)],
        ).T
        mean = self.mean[hole] + gain @ (values - self.mean[known])
        covariance = self.covariance[np.ix_(hole, hole)]
        return mean, covariance - gain @ self.covariance[np.ix_(known, hole)]


def smooth_gaussian(size):
    """A correlated Gaussian over size x size pixels with a mean that is not flat."""
    y, x = np.divmod(np.arange(size * size), size)
    distance = np.hypot(y[:, None] - y, x[:, None] - x)
    covariance = 0.25 * np.exp(-distance / 2.0) + 0.01 * np.eye(size * size)
    return Gaussian(0.4 * np.sin(1.3 * y) + 0.2 * x / size, covariance)


def oracle_denoiser(gaussian, schedule, mask, times):
    """A ``sampling.Denoiser`` with the ideal eps and, as learned range, the ideal
    variance of each pixel (the posterior's plus that of the unknown x_0).
    """
    hole_weight = np.asarray(
        sch.mask_to_hole_weight(schedule, jnp.float32(mask)), np.float64
    ).ravel()
    size = mask.shape[0]
    signal = schedule.signal

    def level(t):
        return hole_weight * signal.hole[t] + (1 - hole_weight) * signal.known[t]

    gains, offsets, fractions = [], [], []
    following = dict(itertools.pairwise(times))
    lookup = np.zeros(schedule.num_steps + 1, np.int32)
    for i, t in enumerate(times[:-1]):
        lookup[t] = i
        gain, offset, covariance = gaussian.posterior(level(t))
        gains.append(gain)
        offsets.append(offset)
        fractions.append(_fraction(level(t), level(following[t]), np.diag(covariance)))
    gains, offsets = jnp.float32(np.stack(gains)), jnp.float32(np.stack(offsets))
    fractions, lookup = jnp.float32(np.stack(fractions)), jnp.asarray(lookup)
    share_map = jnp.float32(hole_weight).reshape(size, size, 1)

    def denoise(x, step):
        i = lookup[step.time]
        flat = x.reshape(x.shape[0], -1)
        x0 = (flat @ gains[i].T + offsets[i][None]).reshape(x.shape)
        log_alpha_bar = sch.log_level(step.t, share_map)
        noisy = log_alpha_bar < 0
        bbar = jnp.where(noisy, -jnp.expm1(log_alpha_bar), 1.0)
        eps = (x - jnp.exp(0.5 * log_alpha_bar)[None] * x0) / jnp.sqrt(bbar)[None]
        eps = jnp.where(noisy[None], eps, 0.0)
        variance = (2 * fractions[i] - 1).reshape(1, size, size, 1)
        return jnp.concatenate([eps, jnp.broadcast_to(variance, x.shape)], -1)

    return denoise


def drawing_oracle(gaussian, schedule, mask, times):
    """A ``sampling.Denoiser`` that predicts no mean but a draw of x_0 given x_t."""
    weight = np.asarray(mask, np.float64).ravel()
    assert set(weight) <= {0.0, 1.0}
    gains, offsets, roots = [], [], []
    for t in times[:-1]:
        level = np.where(weight == 1, schedule.signal.hole[t], schedule.signal.known[t])
        gain, offset, covariance = gaussian.posterior(level)
        values, vectors = np.linalg.eigh(covariance)
        gains.append(gain)
        offsets.append(offset)
        roots.append(vectors * np.sqrt(np.maximum(values, 0)))
    stacks = (jnp.float32(np.stack(each)) for each in (gains, offsets, roots))
    gains, offsets, roots = stacks
    at = jnp.asarray(times[:-1])

    def denoise(x, step):
        i = jnp.argmax(at == step.time)
        flat = x.reshape(len(x), -1)
        z = jax.random.normal(jax.random.fold_in(jax.random.key(9), i), flat.shape)
        x0 = flat @ gains[i].T + offsets[i][None] + z @ roots[i].T
        return x0.reshape(x.shape)

    return denoise


def _fraction(level_t, level_s, x0_variance):
    """Learned-range fraction f of the ideal per-pixel reverse variance."""
    moves = (level_t < 0) & (level_s < 0)
    bbar_t, bbar_s = -np.expm1(level_t), -np.expm1(level_s)
    b = -np.expm1(level_t - level_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        small = b * bbar_s / bbar_t
        ideal = small + np.exp(level_s) * (b / bbar_t) ** 2 * x0_variance
        fraction = np.log(ideal / small) / np.log(b / small)
    return np.where(moves, fraction, 0.0)


def upsampled_then_convolved(x, kernel, precision=None):
    """What `convolution.upsampled_conv` does, in the operations that it saves."""
    around = ((1, 1), (1, 1))
    return convolution.conv(layers.upsample(x), kernel, around, precision=precision)
