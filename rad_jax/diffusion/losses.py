"""The hybrid training loss with a level for every pixel (RAD Sec. 3.1 and 3.4).

``L = MSE(eps) + w * VLB`` as in iDDPM and ADM, element-wise, of one image. The points
that the paper calls singular:

* a pixel with b_{t|t-1} = 0 takes no part in the VLB;
* a pixel in its first noising step (t = 1 in the hole, t = T1 + 1 outside) has a
  posterior of variance 0: there the VLB is the discretised decoder likelihood
  -log p(x_0 | x_1), as in ADM, pixel by pixel;
  A soft mask's pixel that was as good as clean before this step (bbar_{t-1} below a
  thousandth of bbar_t) is taken as clean: the KL grows without bound there.
* where bbar_t = 0 the noise cannot be seen in x_t, and the MSE there is noise in the
  gradient: such pixels are left out unless ``all_pixels`` is set.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.diffusion import gaussian
from rad_jax.diffusion.options import PARAMETRISATIONS, require_one_of
from rad_jax.diffusion.schedule import Step
from rad_jax.errors import UserError
from rad_jax.typing import Image, LogLevel, Output, Scalar


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What the loss is made of.

    Attributes:
      parametrisation: what the network predicts and the MSE compares, one of
        `options.PARAMETRISATIONS`.
      vlb_weight: w above; 0 leaves the VLB out (then the variance is not learned).
        ADM's is T / 1000, the authors' 1e-3.
      all_pixels: average the MSE over clean pixels too, as the authors do.
    """

    parametrisation: str = "eps"
    vlb_weight: float = 1e-3
    all_pixels: bool = False

    def __post_init__(self):
        """Refuses unknown choices."""
        require_one_of("loss.parametrisation", self.parametrisation, PARAMETRISATIONS)
        if self.vlb_weight < 0:
            raise UserError(f"loss.vlb_weight is {self.vlb_weight}; it must be >= 0")


def posterior_kl(
    noise_error: Image,
    levels: gaussian.Levels,
    log_posterior: LogLevel,
    log_variance: Image,
) -> Image:
    """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) in nats, element-wise (DDPM eq. 5).

    The means differ by b_t / sqrt(a_t bbar_t) times the error of the predicted noise.
    That factor and the deviations are kept as logarithms: for soft masks both span
    dozens of orders of magnitude and their ratio does not.

    Args:
      noise_error: predicted noise minus the true one.
      levels: of a unit step.
      log_posterior: log-variance of q (``diffusion.log_variance_range``).
      log_variance: that of p, (h, w, c).
    """
    moves = levels.delta < 0
    delta, level_t = (jnp.where(moves, x, -1.0) for x in (levels.delta, levels.t))
    log_b = jnp.log(gaussian.noise_variance(delta))
    log_bbar = jnp.log(gaussian.noise_variance(level_t))
    log_factor = log_b - 0.5 * log_bbar - 0.5 * delta
    standardised = jnp.exp(log_factor - 0.5 * log_variance) * noise_error
    ratio = log_posterior - log_variance
    return 0.5 * (standardised**2 + jnp.exp(ratio) - ratio - 1.0)


def decoder_nll(x0: Image, mean: Image, log_variance: Image) -> Image:
    """-log p(x_0 | x_1) in nats: x_0 in one of 256 bins of [-1, 1] (DDPM eq. 13).

    The normal distribution function is exact where ADM uses a tanh approximation of
    it; the two differ by less than 4e-4.
    """
    inverse_deviation = jnp.exp(-0.5 * log_variance)
    upper = jax.scipy.special.ndtr((x0 - mean + 1 / 255) * inverse_deviation)
    lower = jax.scipy.special.ndtr((x0 - mean - 1 / 255) * inverse_deviation)
    probability = jnp.where(
        x0 < -0.999, upper, jnp.where(x0 > 0.999, 1 - lower, upper - lower)
    )
    return -jnp.log(jnp.maximum(probability, 1e-12))


def vlb_bits(
    output: Output,
    x0: Image,
    noise: Image,
    x_t: Image,
    step: Step,
    hole_weight: LogLevel,
    parametrisation: str,
) -> Image:
    """Terms of the variational bound at t, in bits, element-wise (RAD eq. 6).

    The mean is not trained by it (iDDPM), and the predicted x_0 is not clipped. Zero
    where b_{t|t-1} = 0. Arguments as in ``hybrid_loss``.
    """
    channels = x0.shape[-1]
    levels = gaussian.pixel_levels(step, hole_weight)
    noise_t, noise_s = (gaussian.noise_variance(x) for x in (levels.t, levels.s))
    nearly_clean = noise_s < 1e-3 * noise_t
    levels = levels._replace(s=jnp.where(nearly_clean, 0.0, levels.s))
    prediction = jax.lax.stop_gradient(output[..., :channels])
    log_variance = gaussian.learned_log_variance(
        output[..., channels:], levels, step.variance_floor
    )
    log_posterior, _ = gaussian.log_variance_range(levels, step.variance_floor)
    predicted = gaussian.predict_noise(x_t, prediction, levels.t, parametrisation)
    kl = posterior_kl(predicted - noise, levels, log_posterior, log_variance)
    moves = levels.delta < 0
    first = moves & (levels.s == 0)
    # In its first step a pixel's mean is the predicted x_0. The others get a harmless
    # variance here, since their terms are dropped below.
    mean = gaussian.predict_x0(x_t, prediction, levels.t, parametrisation)
    nll = decoder_nll(x0, mean, jnp.where(first, log_variance, 0.0))
    return jnp.where(first, nll, jnp.where(moves, kl, 0.0)) / np.log(2.0)


def hybrid_loss(
    config: LossConfig,
    output: Output,
    x0: Image,
    noise: Image,
    x_t: Image,
    step: Step,
    hole_weight: LogLevel,
) -> tuple[Scalar, dict[str, Scalar]]:
    """Loss of one image at one time (RAD Sec. 3.4; ADM's RESCALED_MSE at its weight).

    Both terms are means over all elements of the image, the left out ones counting
    as zero, so every noisy pixel weighs the same whatever the size of its hole.

    Args:
      config: terms and weights.
      output: the network's, (h, w, c) or (h, w, 2c) when it learns the variance.
      x0: clean image in [-1, 1].
      noise: the noise in x_t.
      x_t: ``gaussian.forward_marginal`` of the two.
      step: a unit step t -> t - 1.
      hole_weight: of the mask.

    Returns:
      The loss, and {"mse", "vlb"}; float32, finite for every t and mask.
    """
    channels = x0.shape[-1]
    output = output.astype(jnp.float32)
    levels = gaussian.pixel_levels(step, hole_weight)
    target = gaussian.target(x0, noise, levels.t, config.parametrisation)
    error = (output[..., :channels] - target) ** 2
    if not config.all_pixels:
        error = jnp.where(levels.t < 0, error, 0.0)
    mse = jnp.mean(error)
    vlb = jnp.zeros(())
    if config.vlb_weight:
        bits = vlb_bits(
            output, x0, noise, x_t, step, hole_weight, config.parametrisation
        )
        vlb = jnp.mean(bits)
    return mse + config.vlb_weight * vlb, {"mse": mse, "vlb": vlb}
