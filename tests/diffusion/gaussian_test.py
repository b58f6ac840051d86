"""Forward marginal, posterior and reverse steps: algebra and the authors' numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion import gaussian, options, reverse
from rad_jax.diffusion import schedule as sch
from rad_jax.diffusion.betas import linear_betas
from tests.golden_files import golden, golden_mask

DEFAULT = sch.make_schedule(sch.ScheduleConfig())


def make_step(t, s):
    stack = sch.steps(DEFAULT, np.array([t]), np.array([s]))
    return jax.tree.map(lambda x: x[0], stack)


def levels_of(t, s, mask):
    hole_weight = sch.mask_to_hole_weight(DEFAULT, jnp.float32(mask))
    return gaussian.pixel_levels(make_step(t, s), hole_weight)


def draw(key, *names, shape=(4, 5, 3)):
    keys = jax.random.split(key, len(names))
    return [jax.random.normal(k, shape) for k in keys]


SOFT = jnp.linspace(0, 1, 20).reshape(4, 5)


def assert_as_the_authors(ours, theirs, log_alpha_bar):
    """Equal up to the rounding of their levels.

    Theirs are 1 minus a float32 near 1, off by up to 2e-7, so that sqrt(bbar) is off by
    1e-7 / sqrt(bbar), and for soft masks a float32 product that drifts by 2e-5. Ours
    are right to 1e-5 (test_reverse_step_is_exact).
    """
    bbar = np.maximum(gaussian.noise_variance(log_alpha_bar), 1e-9)
    error = np.max(np.abs(ours - theirs) - 5e-7 / np.sqrt(bbar))
    assert error < 5e-5


@pytest.mark.parametrize("kind", ["binary", "soft"])
@pytest.mark.parametrize("j", [0, 1, 7, 250, 999, 1000, 1500, 1999])
def test_marginal_agrees_with_the_authors(kind, j):
    levels = levels_of(j + 1, j, golden_mask(kind))
    x_t = gaussian.forward_marginal(golden("x0"), levels.t, golden("noise"))
    assert_as_the_authors(x_t, golden(f"{kind}_t{j}_x_t"), levels.t)
    # From their own levels to the digit.
    theirs = jnp.log(golden(f"{kind}_t{j}_a_bar"))[..., None]
    x_t = gaussian.forward_marginal(golden("x0"), theirs, golden("noise"))
    if j < 1990:  # there their bbar is not 1 - a_bar in float32
        np.testing.assert_allclose(x_t, golden(f"{kind}_t{j}_x_t"), atol=1e-5)


def golden_reverse_step(kind, j):
    """Their 100-step sampler: learned range, clipping, stride 10."""
    step = make_step(j + 1, max(j + 1 - 10, 0))
    hole_weight = sch.mask_to_hole_weight(DEFAULT, golden_mask(kind))
    arguments = (golden(f"{kind}_step{j}_x_t"), golden("model_output"))
    config = options.SamplerConfig()
    unused = jnp.zeros((12, 12, 3))
    return reverse.reverse_step(
        config, step, hole_weight, *arguments, unused, golden("z")
    )


STEPS = [990, 980, 500, 20, 10, 0]


@pytest.mark.parametrize("kind", ["binary", "soft"])
@pytest.mark.parametrize("j", STEPS)
def test_reverse_step_agrees_with_the_authors(kind, j):
    x_s, x0 = golden_reverse_step(kind, j)
    levels = levels_of(j + 1, max(j + 1 - 10, 0), golden_mask(kind))
    # In the clean pixels of the binary mask their x0 is the pixel too.
    assert_as_the_authors(x0, golden(f"{kind}_step{j}_x0_pred"), levels.t)
    clean = levels.s == 0
    narrow = jnp.where(clean, levels.t, levels.s)
    assert_as_the_authors(x_s, golden(f"{kind}_step{j}_x_prev"), narrow)


@pytest.mark.parametrize("kind", ["binary", "soft"])
@pytest.mark.parametrize("j", STEPS)
def test_reverse_step_is_exact(kind, j):
    """The same step in float64, from the betas and the mask, by the textbook."""
    t, s = j + 1, max(j + 1 - 10, 0)
    log_abar = np.append(0, np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000))))
    progress = log_abar / log_abar[-1]
    total = np.log(1 - -np.expm1(log_abar[-1]) * np.float64(golden_mask(kind)))
    total = np.where(golden_mask(kind) == 1, log_abar[-1], total)[..., None]
    abar_t, abar_s = np.exp(progress[t] * total), np.exp(progress[s] * total)
    b = -np.expm1((progress[t] - progress[s]) * total)
    output, z = (np.asarray(golden(n), np.float64) for n in ("model_output", "z"))
    x_t = np.float64(golden(f"{kind}_step{j}_x_t"))
    with np.errstate(divide="ignore", invalid="ignore"):
        x0 = (x_t - np.sqrt(1 - abar_t) * output[..., :3]) / np.sqrt(abar_t)
        x0 = np.where(total < 0, np.clip(x0, -1, 1), x_t)
        small = b * (1 - abar_s) / (1 - abar_t)
        mean = (np.sqrt(abar_s) * b * x0 + np.sqrt(1 - b) * (1 - abar_s) * x_t) / (
            1 - abar_t
        )
        fraction = (output[..., 3:] + 1) / 2
        variance = np.exp(fraction * np.log(b) + (1 - fraction) * np.log(small))
    mean = np.where(total < 0, mean, x_t)
    exact = mean + np.where(small > 0, np.sqrt(variance) * z, 0)
    ours = golden_reverse_step(kind, j)
    np.testing.assert_allclose(ours[1], x0, atol=1e-5)
    np.testing.assert_allclose(ours[0], exact, atol=1e-5)


def test_marginals_compose(key):
    """x_s noised further to t has the marginal of t: a_s a_{t|s} = a_t, and so b."""
    for t, s in [(700, 300), (1400, 900), (2000, 1), (3, 2)]:
        levels = levels_of(t, s, SOFT)
        np.testing.assert_allclose(levels.s + levels.delta, levels.t, atol=2e-6)
        variance = np.exp(levels.delta) * gaussian.noise_variance(
            levels.s
        ) + gaussian.noise_variance(levels.delta)
        np.testing.assert_allclose(
            variance, gaussian.noise_variance(levels.t), rtol=2e-6, atol=1e-9
        )


@pytest.mark.parametrize("t, s", [(700, 300), (1000, 999), (1400, 900), (1700, 1200)])
def test_posterior_is_bayes(key, t, s):
    """q(x_s | x_t, x_0) ~ q(x_t | x_s) q(x_s | x_0), a product of two Gaussians."""
    x0, x_t = draw(key, "x0", "x_t")
    levels = levels_of(t, s, 0.05 + 0.9 * SOFT)
    to_s, step = (np.exp(np.float64(x)) for x in (levels.s, levels.delta))
    precision = step / (1 - step) + 1 / (1 - to_s)
    mean = (np.sqrt(step) / (1 - step) * x_t + np.sqrt(to_s) / (1 - to_s) * x0) / (
        precision
    )
    np.testing.assert_allclose(
        gaussian.posterior_mean(x0, x_t, levels), mean, rtol=2e-4, atol=2e-5
    )
    np.testing.assert_allclose(
        gaussian.posterior_variance(levels), 1 / precision, rtol=2e-4
    )


def test_pixels_at_rest_stay_bit_for_bit(key):
    x0, x_t, noise = draw(key, "x0", "x_t", "noise")
    mask = jnp.asarray(np.arange(20).reshape(4, 5) % 2, jnp.float32)
    for t, s, moving in [(1000, 500, mask == 1), (2000, 1500, mask == 0)]:
        levels = levels_of(t, s, mask)
        low, _ = gaussian.log_variance_range(levels, 0.0)
        for x_s in (
            gaussian.posterior_mean(x0, x_t, levels),
            gaussian.ancestral_step(x_t, x0, levels, low, noise),
            gaussian.ddim_step(x_t, x0, levels, 1.0, noise),
            gaussian.dpm_solver_step(x_t, x0, noise, levels, levels.t),
        ):
            np.testing.assert_array_equal(x_s[~moving], x_t[~moving])
            assert not np.any(x_s[moving] == x_t[moving])


def test_no_noise_arrives_at_a_clean_pixel(key):
    """Also where it becomes clean in the middle of the whole process, at T1."""
    x0, x_t, noise = draw(key, "x0", "x_t", "noise")
    mask = jnp.asarray(np.arange(20).reshape(4, 5) % 2, jnp.float32)
    for t, s, arriving in [(10, 0, mask == 1), (1010, 1000, mask == 0)]:
        levels = levels_of(t, s, mask)
        _, high = gaussian.log_variance_range(levels, 0.0)
        x_s = gaussian.ancestral_step(x_t, x0, levels, high, noise)
        np.testing.assert_allclose(x_s[arriving], x0[arriving], atol=1e-6)


@pytest.mark.parametrize("parametrisation", ["eps", "v"])
def test_parametrisations_agree(key, parametrisation):
    x0, noise = draw(key, "x0", "noise")
    for t in (1, 600, 1000, 1600):
        level = levels_of(t, t - 1, SOFT).t
        x_t = gaussian.forward_marginal(x0, level, noise)
        prediction = noise
        if parametrisation == "v":
            prediction = gaussian.velocity(x0, noise, level)
        arguments = (x_t, prediction, level, parametrisation)
        # Dividing by sqrt(abar) magnifies float32's rounding by up to 160.
        np.testing.assert_allclose(gaussian.predict_x0(*arguments), x0, atol=1e-4)
        recovered = gaussian.predict_noise(*arguments)
        np.testing.assert_allclose(recovered, noise, atol=1e-5)
        noisy = level[..., 0] < -1e-3
        again = gaussian.noise_from_x0(x_t, x0, level)
        np.testing.assert_allclose(again[noisy], noise[noisy], atol=1e-4)


def test_learned_range_ends(key):
    """At v = 1 the variance is b, at -1 the posterior's; at t = 1 ADM's clipped one."""
    ones = jnp.ones((4, 5, 3))
    step = make_step(1, 0)
    levels = levels_of(1, 0, jnp.ones((4, 5)))
    betas = linear_betas(1000, 1e-4, 0.02)
    high = gaussian.learned_log_variance(ones, levels, step.variance_floor)
    low = gaussian.learned_log_variance(-ones, levels, step.variance_floor)
    np.testing.assert_allclose(np.exp(high), betas[0], rtol=1e-5)
    alpha_bar = np.cumprod(1 - betas)
    second = betas[1] * (1 - alpha_bar[0]) / (1 - alpha_bar[1])
    np.testing.assert_allclose(np.exp(low), second, rtol=1e-5)
    levels = levels_of(500, 499, jnp.ones((4, 5)))
    low = gaussian.learned_log_variance(-ones, levels, 0.0)
    exact = betas[499] * (1 - alpha_bar[498]) / (1 - alpha_bar[499])
    np.testing.assert_allclose(np.exp(low), exact, rtol=1e-5)


def ddim_reference(x_t, x0, abar_t, abar_s, eta, noise):
    """DDIM eq. 12 and 16, float64."""
    eps = (x_t - np.sqrt(abar_t) * x0) / np.sqrt(1 - abar_t)
    sigma = eta * np.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))
    mean = np.sqrt(abar_s) * x0 + np.sqrt(1 - abar_s - sigma**2) * eps
    return mean + sigma * noise


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_the_textbook_on_a_uniform_mask(key, eta):
    x0, x_t, noise = draw(key, "x0", "x_t", "noise")
    alpha_bar = np.cumprod(1 - linear_betas(1000, 1e-4, 0.02))
    for t, s in [(1000, 990), (400, 100)]:
        levels = levels_of(t, s, jnp.ones((4, 5)))
        ours = gaussian.ddim_step(x_t, x0, levels, eta, noise)
        exact = ddim_reference(
            np.float64(x_t),
            np.float64(x0),
            alpha_bar[t - 1],
            alpha_bar[s - 1],
            eta,
            np.float64(noise),
        )
        np.testing.assert_allclose(ours, exact, atol=2e-5)


def test_ddim_with_eta_one_is_ancestral(key):
    x0, x_t, noise = draw(key, "x0", "x_t", "noise")
    levels = levels_of(600, 400, SOFT)
    small, _ = gaussian.log_variance_range(levels, 0.0)
    np.testing.assert_allclose(
        gaussian.ddim_step(x_t, x0, levels, 1.0, noise),
        gaussian.ancestral_step(x_t, x0, levels, small, noise),
        atol=2e-5,
    )


def test_solver_of_first_order_is_ddim(key):
    x0, x_t, noise = draw(key, "x0", "x_t", "noise")
    for t, s in [(1000, 900), (600, 400), (30, 0), (1300, 1000)]:
        levels = levels_of(t, s, SOFT)
        np.testing.assert_allclose(
            gaussian.dpm_solver_step(x_t, x0, noise, levels, levels.t),
            gaussian.ddim_step(x_t, x0, levels, 0.0, noise),
            atol=1e-5,
        )


def test_solver_of_second_order_is_the_textbook(key):
    """DPM-Solver++ Alg. 2 in float64 with its own lambda, h and r."""
    x0, x_t, before = draw(key, "x0", "x_t", "before")
    t, s, r = 600, 450, 800
    levels = levels_of(t, s, 0.1 + 0.9 * SOFT)
    previous = levels_of(r, t, 0.1 + 0.9 * SOFT).t
    lam = [
        0.5 * (x - np.log(-np.expm1(x)))
        for x in map(np.float64, (previous, levels.t, levels.s))
    ]
    h, ratio = lam[2] - lam[1], (lam[1] - lam[0]) / (lam[2] - lam[1])
    x0_64, before_64 = np.float64(x0), np.float64(before)
    target = (1 + 1 / (2 * ratio)) * x0_64 - 1 / (2 * ratio) * before_64
    sigma_t, sigma_s = (np.sqrt(-np.expm1(x)) for x in (levels.t, levels.s))
    exact = sigma_s / sigma_t * x_t - np.exp(0.5 * levels.s) * np.expm1(-h) * target
    ours = gaussian.dpm_solver_step(x_t, x0, before, levels, previous)
    np.testing.assert_allclose(ours, exact, atol=2e-5)


def test_gradients_are_finite_at_clean_pixels(key):
    x0, x_t, noise = draw(key, "x0", "x_t", "noise")
    mask = jnp.asarray(np.arange(20).reshape(4, 5) % 2, jnp.float32)

    def total(x_t, t, s):
        levels = levels_of(t, s, mask)
        low, _ = gaussian.log_variance_range(levels, 0.0)
        return sum(
            jnp.sum(f)
            for f in (
                gaussian.ancestral_step(x_t, x0, levels, low, noise),
                gaussian.ddim_step(x_t, x0, levels, 0.5, noise),
                gaussian.dpm_solver_step(x_t, x0, x_t, levels, levels.t),
                gaussian.renoise_step(x_t, x0, levels, noise),
                gaussian.noise_from_x0(x_t, x0, levels.t),
            )
        )

    for t, s in [(1, 0), (1000, 10), (1001, 1000), (2000, 1999)]:
        assert np.all(np.isfinite(jax.grad(total)(x_t, t, s)))


def test_renoising_forgets_the_image_that_it_comes_from(key):
    """But where a pixel is clean, or does not move; soft masks have levels between."""
    x0, x_t, noise = draw(key, "x0", "x_t", "noise")
    levels = levels_of(640, 360, SOFT)
    found = gaussian.renoise_step(x_t, x0, levels, noise)
    expected = gaussian.forward_marginal(x0, levels.s, noise)
    np.testing.assert_array_equal(found[1:], expected[1:])
    np.testing.assert_array_equal(found[0, 0], x_t[0, 0])  # known
    config = options.SamplerConfig("renoise", parametrisation="x0", clip=False)
    weight = sch.mask_to_hole_weight(DEFAULT, SOFT)
    images = x_t, x0, jnp.zeros_like(x0), noise
    by_name, _ = reverse.reverse_step(config, make_step(640, 360), weight, *images)
    np.testing.assert_array_equal(by_name, found)
    last = levels_of(160, 0, SOFT)
    found = gaussian.renoise_step(x_t, x0, last, noise)
    np.testing.assert_array_equal(found[1:], x0[1:])
    still = gaussian.Levels(levels.t, levels.t, jnp.zeros_like(levels.t))
    np.testing.assert_array_equal(gaussian.renoise_step(x_t, x0, still, noise), x_t)


@pytest.mark.parametrize("parametrisation", options.PARAMETRISATIONS)
def test_what_a_network_should_predict_is_read_back(parametrisation):
    """The target's clean image and noise are those that it was made of."""
    x0, noise = draw(jax.random.key(0), "x0", "noise")
    level = jnp.full((4, 5, 1), -1.5)
    x_t = gaussian.forward_marginal(x0, level, noise)
    predicted = gaussian.target(x0, noise, level, parametrisation)
    clean = gaussian.predict_x0(x_t, predicted, level, parametrisation)
    np.testing.assert_allclose(clean, x0, atol=1e-5)
    found = gaussian.predict_noise(x_t, predicted, level, parametrisation)
    np.testing.assert_allclose(found, noise, atol=1e-5)


def test_a_score_is_the_noise_with_the_other_sign():
    """Times the deviation; x0 is the clean image itself."""
    x0, noise = draw(jax.random.key(0), "x0", "noise")
    level = jnp.full((4, 5, 1), -1.5)
    np.testing.assert_array_equal(gaussian.target(x0, noise, level, "score"), -noise)
    np.testing.assert_array_equal(gaussian.target(x0, noise, level, "x0"), x0)
