"""The hybrid loss: textbook ADM on uniform masks, the singular points, no NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from rad_jax.diffusion import gaussian, losses
from rad_jax.diffusion import schedule as sch
from rad_jax.diffusion.betas import linear_betas
from rad_jax.errors import UserError
from tests.golden_files import golden, golden_mask

pytestmark = pytest.mark.usefixtures("quickly")

DEFAULT = sch.make_schedule(sch.ScheduleConfig())
T1, T = 1000, 2000


def unit_step(t):
    stack = sch.steps(DEFAULT, np.array([t]), np.array([t - 1]))
    return jax.tree.map(lambda x: x[0], stack)


def terms(t, mask, output, x0, noise, **config):
    step = unit_step(t)
    hole_weight = sch.mask_to_hole_weight(DEFAULT, jnp.float32(mask))
    level = sch.log_level(step.t, hole_weight)
    x_t = gaussian.forward_marginal(x0, level, noise)
    loss_config = losses.LossConfig(**config)
    return losses.hybrid_loss(loss_config, output, x0, noise, x_t, step, hole_weight)


def example(key, shape=(6, 8, 3)):
    a, b, c = jax.random.split(key, 3)
    x0 = jnp.round(127.5 * jnp.tanh(jax.random.normal(a, shape))) / 127.5
    noise = jax.random.normal(b, shape)
    error = jax.random.normal(c, (*shape[:2], 2 * shape[2]))
    output = 0.3 * error + jnp.pad(noise, ((0, 0), (0, 0), (0, shape[2])))
    return x0, noise, output


MASKS = {
    "empty": np.zeros((6, 8)),
    "full": np.ones((6, 8)),
    "binary": np.arange(48).reshape(6, 8) % 2,
    "soft": np.linspace(0, 1, 48).reshape(6, 8),
    "nearly clean": np.logspace(-40, 0, 48).reshape(6, 8),
}


@pytest.mark.parametrize("parametrisation", ["eps", "v"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("t", [1, 2, T1, T1 + 1, T1 + 2, T])
def test_loss_and_gradient_are_finite(key, t, mask, dtype, parametrisation):
    x0, noise, output = example(key)
    config = {"vlb_weight": 1.0, "parametrisation": parametrisation}

    def loss(output):
        return terms(t, MASKS[mask], output, x0, noise, **config)[0]

    # An untrained network, a good one, and one that is badly off.
    scales = jnp.asarray([0.0, 1.0, 10.0]).reshape(3, 1, 1, 1)
    outputs = jnp.astype(scales * output[None], dtype)
    values, gradients = jax.vmap(jax.value_and_grad(loss))(outputs)
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(np.float32(gradients)))


def adm_vlb(t, output, x0, noise):
    """The bound of plain ADM at t in bits per dimension, float64."""
    betas = linear_betas(1000, 1e-4, 0.02)
    abar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    posterior = betas * (1 - abar[:-1]) / (1 - abar[1:])
    clipped = np.append(posterior[1], posterior[1:])
    output, x0, noise = (np.asarray(x, np.float64) for x in (output, x0, noise))
    channels = x0.shape[-1]
    i = t - 1
    fraction = (output[..., channels:] + 1) / 2
    log_variance = fraction * np.log(betas[i]) + (1 - fraction) * np.log(clipped[i])
    x_t = np.sqrt(abar[t]) * x0 + np.sqrt(1 - abar[t]) * noise
    eps = output[..., :channels]
    x0_hat = (x_t - np.sqrt(1 - abar[t]) * eps) / np.sqrt(abar[t])
    of_x0 = betas[i] * np.sqrt(abar[i]) / (1 - abar[t])
    if t > 1:
        variance = np.exp(log_variance)
        kl = 0.5 * (
            log_variance
            - np.log(clipped[i])
            - 1
            + clipped[i] / variance
            + (of_x0 * (x0 - x0_hat)) ** 2 / variance
        )
        return np.mean(kl) / np.log(2)
    deviation = np.exp(0.5 * log_variance)
    upper = np.where(x0 > 0.999, 1, norm.cdf(x0 + 1 / 255, x0_hat, deviation))
    lower = np.where(x0 < -0.999, 0, norm.cdf(x0 - 1 / 255, x0_hat, deviation))
    return np.mean(-np.log(np.maximum(upper - lower, 1e-12))) / np.log(2)


@pytest.mark.parametrize("t", [1, 2, 3, 50, 500, 999, 1000])
def test_a_uniform_mask_is_adm(key, t):
    x0, noise, output = example(key)
    exact = adm_vlb(t, output, x0, noise)
    _, hole = terms(t, MASKS["full"], output, x0, noise)
    np.testing.assert_allclose(hole["vlb"], exact, rtol=1e-4)
    np.testing.assert_allclose(
        hole["mse"], np.mean((output[..., :3] - noise) ** 2), rtol=1e-5
    )
    # The same phase seen from the known pixels, T1 steps later.
    _, known = terms(T1 + t, MASKS["empty"], output, x0, noise)
    np.testing.assert_allclose(known["vlb"], exact, rtol=1e-4)


@pytest.mark.parametrize("kind", ["binary", "soft"])
@pytest.mark.parametrize("j", [7, 250, 500, 998, 999, 1001, 1007, 1500, 1998, 1999])
def test_vlb_agrees_with_the_authors(kind, j):
    """Except at their j = 0 and 1000, which are 0 by mistake, and j = 1."""
    output, x0, noise = golden("model_output"), golden("x0"), golden("noise")
    mask = golden_mask(kind)
    _, ours = terms(j + 1, mask, output, x0, noise)
    theirs = golden(f"{kind}_t{j}_vlb")
    np.testing.assert_allclose(ours["vlb"], theirs, rtol=2e-3)


@pytest.mark.parametrize("t, first", [(1, 1), (T1 + 1, 0)])
def test_first_steps_use_the_decoder_likelihood(key, t, first):
    """A better guess of x_0 raises the likelihood; the other pixels add nothing."""
    x0, noise, output = example(key)
    mask = MASKS["binary"]
    _, good = terms(t, mask, output, x0, noise)
    worse = output.at[..., :3].add(3.0 * (mask == first)[..., None])
    _, bad = terms(t, mask, worse, x0, noise)
    assert bad["vlb"] > good["vlb"] > 0
    elsewhere = output.at[..., :].add(3.0 * (mask != first)[..., None])
    _, same = terms(t, mask, elsewhere, x0, noise)
    if t == 1:
        np.testing.assert_array_equal(same["vlb"], good["vlb"])


def test_vlb_does_not_train_the_mean(key):
    x0, noise, output = example(key)

    def vlb(output, t):
        return terms(t, MASKS["soft"], output, x0, noise)[1]["vlb"]

    for t in (1, 300, 1300):
        gradient = jax.grad(vlb)(output, t)
        assert not np.any(gradient[..., :3])
        assert np.any(gradient[..., 3:])


def test_pixels_at_rest_have_no_vlb(key):
    x0, noise, output = example(key)
    _, hole = terms(T1 + 300, MASKS["full"], output, x0, noise)
    _, known = terms(300, MASKS["empty"], output, x0, noise)
    assert hole["vlb"] == 0 and known["vlb"] == 0


def test_clean_pixels_are_left_out_unless_asked(key):
    x0, noise, output = example(key)
    mask = MASKS["binary"]
    noisy = np.mean(((output[..., :3] - noise) ** 2)[mask == 1]) * np.mean(mask)
    _, default = terms(300, mask, output, x0, noise)
    np.testing.assert_allclose(default["mse"], noisy, rtol=1e-5)
    _, all_pixels = terms(300, mask, output, x0, noise, all_pixels=True)
    everything = np.mean((output[..., :3] - noise) ** 2)
    np.testing.assert_allclose(all_pixels["mse"], everything, rtol=1e-5)
    # Once all pixels are noisy the two are one.
    _, later = terms(T1 + 1, mask, output, x0, noise)
    np.testing.assert_allclose(later["mse"], everything, rtol=1e-5)


def test_weight_adds_the_bound(key):
    x0, noise, output = example(key)
    total, parts = terms(300, MASKS["soft"], output, x0, noise, vlb_weight=0.5)
    np.testing.assert_allclose(total, parts["mse"] + 0.5 * parts["vlb"], rtol=1e-6)
    # Without it the network needs no variance channels.
    total, parts = terms(300, MASKS["soft"], output[..., :3], x0, noise, vlb_weight=0.0)
    assert total == parts["mse"] and parts["vlb"] == 0


def test_velocity_target(key):
    x0, noise, _ = example(key)
    hole_weight = sch.mask_to_hole_weight(DEFAULT, jnp.float32(MASKS["full"]))
    velocity = gaussian.velocity(
        x0, noise, sch.log_level(unit_step(700).t, hole_weight)
    )
    output = jnp.concatenate([velocity, jnp.zeros_like(velocity)], -1)
    config = {"parametrisation": "v"}
    _, parts = terms(700, MASKS["full"], output, x0, noise, **config)
    assert parts["mse"] == 0


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"parametrisation": "xt"}, "loss.parametrisation is 'xt'"),
        ({"vlb_weight": -1.0}, "loss.vlb_weight is -1.0"),
    ],
)
def test_bad_values_are_refused(bad, message):
    with pytest.raises(UserError, match=message):
        losses.LossConfig(**bad)
