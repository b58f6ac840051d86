"""The comparison of solvers: exact moments against samples, scores, the rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import solvers
from benchmarks.exact_samplers import SCHEDULE, bures, oracle_error, propagate
from rad_jax.diffusion import sampling
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.schedule import mask_to_hole_weight
from tests.oracles import oracle_denoiser, smooth_gaussian

SIZE = 4
GAUSSIAN = smooth_gaussian(SIZE)
IMAGES = np.random.default_rng(0).multivariate_normal(
    GAUSSIAN.mean, GAUSSIAN.covariance, 400
)
BOX = np.zeros((SIZE, SIZE))
BOX[1:3, 1:4] = 1
HOLE = BOX.ravel() > 0


def samples(config, grid, count):
    """Inpaintings of the first image by the sampler itself, (count, hole's pixels)."""
    stack = sampling.grid_steps(SCHEDULE, grid)
    denoise = oracle_denoiser(GAUSSIAN, SCHEDULE, BOX, grid.times)
    shape = (count, SIZE, SIZE, 1)
    share = jnp.broadcast_to(
        mask_to_hole_weight(SCHEDULE, jnp.float32(BOX))[None], shape
    )
    image = jnp.float32(IMAGES[0]).reshape(1, SIZE, SIZE, 1)
    start = jax.tree.map(lambda level: level[0], stack.t)
    run = functools.partial(sampling.inpaint, denoise, config, stack, start)
    keys = jax.random.split(jax.random.key(1), count)
    out = jax.jit(run)(jnp.broadcast_to(image, shape), share, keys)
    return np.float64(out).reshape(count, -1)[:, HOLE]


@pytest.mark.slow
@pytest.mark.parametrize("method, kind", [("ddpm", "uniform"), ("dpm++", "log_snr")])
def test_exact_moments_are_those_of_samples(method, kind):
    """Within 4 Monte-Carlo standard errors, five steps: far from the conditional."""
    count = 20_000
    config = SamplerConfig(method=method, clip=False)
    grid = sampling.time_grid(SCHEDULE, 5, kind)
    made = samples(config, grid, count)
    exact = propagate(GAUSSIAN, BOX, config, grid, IMAGES[:1])
    covariance = exact.covariance[np.ix_(HOLE, HOLE)]
    variance = np.diag(covariance)
    of_mean = (made.mean(0) - exact.mean[HOLE, 0]) / np.sqrt(variance / count)
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / count)
    assert np.abs(of_mean).max() < 4
    assert np.abs((np.cov(made.T) - covariance) / spread).max() < 4
    np.testing.assert_allclose(exact.mean[~HOLE, 0], IMAGES[0, ~HOLE], rtol=1e-6)
    assert not exact.covariance[~HOLE].any()

    _, wanted = GAUSSIAN.conditional(~HOLE, IMAGES[0, ~HOLE])
    assert np.abs((np.cov(made.T) - wanted) / spread).max() > 8


@pytest.mark.slow
def test_ddim_with_all_its_noise_is_ancestral_with_the_small_variance():
    grid = sampling.time_grid(SCHEDULE, 7, "quadratic")
    configs = (
        SamplerConfig("ddim", eta=1.0, clip=False),
        SamplerConfig("ddpm", variance="small", clip=False),
    )
    ddim, ancestral = (
        propagate(GAUSSIAN, BOX, config, grid, IMAGES[:2]) for config in configs
    )
    np.testing.assert_allclose(ddim.mean, ancestral.mean, atol=1e-4)
    np.testing.assert_allclose(ddim.covariance, ancestral.covariance, atol=1e-5)


@pytest.mark.slow
def test_error_is_the_mean_distance_over_the_data():
    """From noise of T1 but at an earlier time: wrong means, which a solver keeps."""
    config = SamplerConfig(method="dpm++", clip=False)
    times = np.rint(700 * np.linspace(1, 0, 21) ** 2).astype(int)
    grid = sampling.Grid(1000, times)
    made = propagate(GAUSSIAN, BOX, config, grid, IMAGES)
    exact = [GAUSSIAN.conditional(~HOLE, image[~HOLE]) for image in IMAGES]
    covariance = exact[0][1]
    off = made.mean[HOLE].T - np.stack([mean for mean, _ in exact])
    of_covariance = bures(made.covariance[np.ix_(HOLE, HOLE)], covariance)
    of_means = np.mean(np.sum(off**2, 1))
    assert of_means > 2 * of_covariance
    expected = np.sqrt((of_means + of_covariance) / np.trace(covariance))
    error = oracle_error(GAUSSIAN, BOX, config, grid)
    np.testing.assert_allclose(error, expected, rtol=0.1)


def test_distance_of_gaussians():
    """Closed form where the covariances commute; not Euclidean where they do not."""
    a, b = np.diag([4.0, 1.0]), np.diag([9.0, 0.25])
    np.testing.assert_allclose(bures(a, b), 1 + 0.25)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(bures(turn @ a @ turn.T, turn @ b @ turn.T), 1.25)
    mixed = bures(a, turn @ b @ turn.T)
    squared = (
        np.trace(a)
        + np.trace(b)
        - 2
        * np.sqrt(np.trace(a @ turn @ b @ turn.T) + 2 * np.sqrt(np.linalg.det(a @ b)))
    )  # the trace of a 2 x 2 matrix's root
    np.testing.assert_allclose(mixed, squared)


def test_energy_score_asks_for_the_right_distribution():
    rng = np.random.default_rng(0)
    shape = (2, 3000, 4, 4, 1)
    hole = np.zeros(shape[1:], bool)
    hole[:, :2] = True
    truth = 128 + 20 * rng.standard_normal(shape[1:])

    def score(mean, deviation):
        made = mean + deviation * rng.standard_normal(shape)
        made[:, ~hole] = -1e6  # not looked at
        return solvers.energy_scores(made, truth, hole).mean()

    right = score(128, 20)
    for wrong in ((128, 0.1), (128, 40), (140, 20), (140, 0.1)):
        assert score(*wrong) > 1.02 * right
    one = np.full((2, 1, 1, 2, 1), 51.0)
    one[1] = 102.0
    hole = np.array([True, False]).reshape(1, 1, 2, 1)
    given = solvers.energy_scores(one, np.zeros((1, 1, 2, 1)), hole)
    np.testing.assert_allclose(given, [0.3 - 0.1])
    assert solvers.energy_scores(one, one[0], np.zeros_like(hole)) == [0]


def row(sampler, grid, steps, **more):
    return {"sampler": sampler, "grid": grid, "steps": steps, **more}


def test_rows_are_compared_digit_by_digit():
    rows = [
        row("ancestral", "uniform", 100),
        row("DDIM", "uniform", 5),
        row("DDIM", "quadratic", 5),
    ]
    noise = np.random.default_rng(0).standard_normal(9)
    scores = np.stack([noise, noise + 2, noise + 1])
    scores[1, ::3] += 0.3
    default, worse, best = solvers.with_differences(rows, scores)
    assert default["behind"] == {"mean": 0, "standard_error": 0}
    assert best["behind"] == {"mean": 0, "standard_error": 0}
    np.testing.assert_allclose(best["behind_default"]["mean"], 1)
    np.testing.assert_allclose(best["behind_default"]["standard_error"], 0, atol=1e-9)
    np.testing.assert_allclose(worse["behind"]["mean"], 1.1)
    # Three of nine are 0.3 higher: a standard deviation of 0.15, over the root of 9.
    np.testing.assert_allclose(worse["behind"]["standard_error"], 0.05)
    assert worse["energy_score"] == pytest.approx(noise.mean() + 2.1)


def test_the_rule():
    """Of those within two standard errors of the best, the smallest exact error."""

    def behind(mean, error):
        return {"behind": {"mean": mean, "standard_error": error}}

    digits = [
        row("A", "uniform", 5, **behind(0, 0)),
        row("A", "quadratic", 5, **behind(0.019, 0.01)),
        row("B", "uniform", 5, **behind(0.021, 0.01)),
        row("A", "uniform", 10, **behind(0.3, 0.1)),
        row("B", "uniform", 10, **behind(0, 0)),
    ]
    oracle = [
        row("A", "uniform", 5, error=0.3),
        row("A", "quadratic", 5, error=0.2),
        row("B", "uniform", 5, error=0.1),
        row("A", "uniform", 10, error=0.1),
        row("B", "uniform", 10, error=0.2),
        row("C", "uniform", 10, error=0.0),  # not tried on digits
    ]
    assert solvers.recommend(oracle, digits) == [
        row("A", "quadratic", 5),
        row("B", "uniform", 10),
    ]
