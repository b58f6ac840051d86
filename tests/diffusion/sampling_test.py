"""The whole sampler against the exact conditional of a Gaussian; grids; batches."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion import options, sampling
from rad_jax.diffusion import schedule as sch
from rad_jax.errors import UserError
from tests import oracles

DEFAULT = sch.make_schedule(sch.ScheduleConfig())
SIZE, SAMPLES = 4, 20_000
GAUSSIAN = oracles.smooth_gaussian(SIZE)
TRUTH = np.random.default_rng(0).multivariate_normal(GAUSSIAN.mean, GAUSSIAN.covariance)

BOX = np.zeros((SIZE, SIZE))
BOX[1:3, 1:4] = 1
MASKS = {"box": BOX, "extreme": 1 - BOX}
EACH_MASK = ["box", pytest.param("extreme", marks=pytest.mark.slow)]
SOFT = np.clip(np.linspace(-0.4, 1.3, SIZE * SIZE).reshape(SIZE, SIZE), 0, 1)


def samples(
    mask,
    config,
    num_steps,
    grid: Any = "uniform",
    x=None,
    oracle=oracles.oracle_denoiser,
):
    """SAMPLES inpaintings of TRUTH, or continuations of ``x``, as (n, pixels)."""
    times = sampling.time_grid(DEFAULT, num_steps, grid)
    stack = sampling.grid_steps(DEFAULT, times)
    denoise = oracle(GAUSSIAN, DEFAULT, mask, times.times)
    shape = (SAMPLES, SIZE, SIZE, 1)
    hole_weight = sch.mask_to_hole_weight(DEFAULT, jnp.float32(mask))
    hole_weight = jnp.broadcast_to(hole_weight[None], shape)
    image = jnp.float32(TRUTH if x is None else x).reshape(1, SIZE, SIZE, 1)
    images = jnp.broadcast_to(image, shape)
    keys = jax.random.split(jax.random.key(1), SAMPLES)
    if x is None:
        start = jax.tree.map(lambda level: level[0], stack.t)
        run = functools.partial(sampling.inpaint, denoise, config, stack, start)
    else:
        run = functools.partial(sampling.sample, denoise, config, stack)
    out = np.asarray(jax.jit(run)(images, hole_weight, keys)).reshape(SAMPLES, -1)
    known = mask.ravel() == 0
    fixed = np.asarray(images[0]).ravel()[known]
    assert np.array_equal(out[:, known], np.tile(fixed, (SAMPLES, 1))), "bit for bit"
    return out.astype(np.float64)


def errors(out, mean, covariance):
    """Mean error and covariance error, both in Monte-Carlo standard errors."""
    n = len(out)
    variance = np.diag(covariance)
    of_mean = (out.mean(0) - mean) / np.sqrt(variance / n)
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / n)
    of_covariance = (np.cov(out.T) - covariance) / spread
    return np.abs(of_mean).max(), np.abs(of_covariance).max()


def relative(out, covariance):
    """Error of the covariance relative to it, by Frobenius norms."""
    return np.linalg.norm(np.cov(out.T) - covariance) / np.linalg.norm(covariance)


@pytest.mark.parametrize("name", EACH_MASK)
def test_ancestral_sampling_is_exact(name):
    """1000 steps: mean and covariance within 4 Monte-Carlo standard errors.

    The largest of about 10 means and 55 covariances is expected near 2.5.
    """
    mask = MASKS[name]
    known = mask.ravel() == 0
    mean, covariance = GAUSSIAN.conditional(known, TRUTH[known])
    out = samples(mask, options.SamplerConfig(clip=False), 1000)[:, ~known]
    of_mean, of_covariance = errors(out, mean, covariance)
    assert of_mean < 4
    assert of_covariance < 4


@pytest.mark.slow
def test_ancestral_sampling_is_exact_for_a_soft_mask():
    """From a given x_T1 the target is p(x_0 | x_T1), known pixels included."""
    hole_weight = np.float64(
        sch.mask_to_hole_weight(DEFAULT, jnp.float32(SOFT))
    ).ravel()
    level = hole_weight * DEFAULT.signal.hole[1000]
    noise = np.random.default_rng(1).standard_normal(SIZE * SIZE)
    x = np.exp(level / 2) * TRUTH + np.sqrt(-np.expm1(level)) * noise
    gain, offset, covariance = GAUSSIAN.posterior(level)
    mean = gain @ x + offset
    hole = SOFT.ravel() > 0
    out = samples(SOFT, options.SamplerConfig(clip=False), 1000, x=x)[:, hole]
    of_mean, of_covariance = errors(out, mean[hole], covariance[np.ix_(hole, hole)])
    assert of_mean < 4
    assert of_covariance < 4


def test_renoising_draws_of_the_clean_image_is_exact():
    """At any few times, if what is predicted is no mean but a draw given x_t."""
    times = (1000, 640, 360, 160)
    config = options.SamplerConfig("renoise", parametrisation="x0", clip=False)
    known = BOX.ravel() == 0
    mean, covariance = GAUSSIAN.conditional(known, TRUTH[known])
    out = samples(BOX, config, 4, times, oracle=oracles.drawing_oracle)[:, ~known]
    assert errors(out, mean, covariance)[0] < 4
    assert relative(out, covariance) < 0.05


@pytest.mark.parametrize("name", EACH_MASK)
@pytest.mark.parametrize(
    "method, num_steps, grid, bias",
    [
        # Monte-Carlo error alone is 0.02.
        ("ddpm", 100, "uniform", 0.05),
        pytest.param("ddim", 100, "uniform", 0.09, marks=pytest.mark.slow),
        ("ddim", 20, "uniform", 0.35),
        pytest.param("dpm++", 100, "uniform", 0.04, marks=pytest.mark.slow),
        pytest.param("dpm++", 20, "uniform", 0.18, marks=pytest.mark.slow),
        ("dpm++", 20, "log_snr", 0.06),
        pytest.param("dpm++", 20, "quadratic", 0.08, marks=pytest.mark.slow),
    ],
)
def test_few_steps_have_a_small_bias(name, method, num_steps, grid, bias):
    """Relative error of the hole's covariance; the means within 4 standard errors."""
    mask = MASKS[name]
    known = mask.ravel() == 0
    mean, covariance = GAUSSIAN.conditional(known, TRUTH[known])
    config = options.SamplerConfig(method=method, clip=False)
    out = samples(mask, config, num_steps, grid)[:, ~known]
    assert errors(out, mean, covariance)[0] < 4
    assert relative(out, covariance) < bias


def test_second_order_beats_first():
    mask = MASKS["box"]
    known = mask.ravel() == 0
    _, covariance = GAUSSIAN.conditional(known, TRUTH[known])
    ddim, solver = (
        relative(
            samples(mask, options.SamplerConfig(method=m, clip=False), 20)[:, ~known],
            covariance,
        )
        for m in ("ddim", "dpm++")
    )
    assert solver < 0.6 * ddim


@pytest.mark.parametrize("variance, sign", [("small", -1), ("large", 1)])
def test_fixed_variances_err_to_their_side(variance, sign):
    """With 20 steps the posterior's variance is too small and b too large."""
    mask = MASKS["box"]
    known = mask.ravel() == 0
    _, covariance = GAUSSIAN.conditional(known, TRUTH[known])
    config = options.SamplerConfig(variance=variance, clip=False)
    out = samples(mask, config, 20)[:, ~known]
    ratio = np.diag(np.cov(out.T)) / np.diag(covariance)
    assert np.all(sign * (ratio - 1) > 0.05)


def test_generation_from_pure_noise():
    """Both phases backwards, T to 0, sample the whole Gaussian."""
    n = 4000
    times = np.arange(DEFAULT.num_steps, -1, -10)
    stack = sampling.grid_steps(DEFAULT, sampling.Grid(DEFAULT.num_steps, times))
    denoise = oracles.oracle_denoiser(GAUSSIAN, DEFAULT, BOX, times)
    hole_weight = sch.mask_to_hole_weight(DEFAULT, jnp.float32(BOX))
    hole_weight = jnp.broadcast_to(hole_weight[None], (n, SIZE, SIZE, 1))
    x = jax.random.normal(jax.random.key(2), hole_weight.shape)
    keys = jax.random.split(jax.random.key(3), n)
    for method in ("ddpm", "dpm++"):
        config = options.SamplerConfig(method=method, clip=False)
        out = sampling.sample(denoise, config, stack, x, hole_weight, keys)
        out = np.asarray(out, np.float64).reshape(n, -1)
        assert errors(out, GAUSSIAN.mean, GAUSSIAN.covariance)[0] < 4
        assert relative(out, GAUSSIAN.covariance) < 0.1


# ---- Everything below needs no statistics.


def small_problem(batch=3):
    """A denoiser that looks at the whole image, and a batch with all its pieces."""

    def denoise(x, step):
        mixed = jnp.tanh(x + jnp.mean(x, (1, 2), keepdims=True))
        return jnp.concatenate([mixed, jnp.zeros_like(x)], -1)

    keys = jax.random.split(jax.random.key(7), batch)
    images = jax.vmap(lambda k: jnp.tanh(jax.random.normal(k, (6, 5, 3))))(keys)
    masks = jax.vmap(lambda k: jax.random.bernoulli(k, 0.5, (6, 5)))(keys)
    hole_weight = jax.vmap(lambda m: sch.mask_to_hole_weight(DEFAULT, m))(
        jnp.float32(masks)
    )
    return denoise, images, hole_weight, keys


@pytest.mark.parametrize("method", options.METHODS)
def test_a_result_does_not_depend_on_its_batch(method):
    denoise, images, hole_weight, keys = small_problem()
    stack = sampling.grid_steps(DEFAULT, sampling.time_grid(DEFAULT, 8))
    start = jax.tree.map(lambda x: x[0], stack.t)
    config = options.SamplerConfig(method=method)
    run = jax.jit(functools.partial(sampling.inpaint, denoise, config, stack, start))
    together = run(images, hole_weight, keys)
    order = jnp.array([2, 0])
    np.testing.assert_array_equal(
        run(images[order], hole_weight[order], keys[order]), together[order]
    )
    np.testing.assert_array_equal(
        jnp.where(hole_weight == 0, together, 0), jnp.where(hole_weight == 0, images, 0)
    )


def test_the_holes_content_is_not_used():
    denoise, images, hole_weight, keys = small_problem()
    stack = sampling.grid_steps(DEFAULT, sampling.time_grid(DEFAULT, 8))
    start = jax.tree.map(lambda x: x[0], stack.t)
    config = options.SamplerConfig()
    run = jax.jit(functools.partial(sampling.inpaint, denoise, config, stack, start))
    blanked = jnp.where(hole_weight == 1, 0.5, images)
    np.testing.assert_array_equal(
        run(images, hole_weight, keys), run(blanked, hole_weight, keys)
    )


def test_times_are_data():
    """Other grids and step counts of one bucket run one compiled program."""
    denoise, images, hole_weight, keys = small_problem()
    config = options.SamplerConfig()
    traces = []

    @jax.jit
    def run(stack, start):
        traces.append(1)
        return sampling.inpaint(
            denoise, config, stack, start, images, hole_weight, keys
        )

    for n, kind in [(8, "uniform"), (5, "quadratic"), (8, "log_snr")]:
        times = sampling.time_grid(DEFAULT, n, kind)
        stack = sampling.grid_steps(DEFAULT, times, bucket=8)
        start = jax.tree.map(lambda x: x[0], stack.t)
        padded = run(stack, start)
        exact_stack = sampling.grid_steps(DEFAULT, times)
        exact = sampling.inpaint(
            denoise, config, exact_stack, start, images, hole_weight, keys
        )
        np.testing.assert_allclose(padded, exact, atol=1e-5)
    assert len(traces) == 1


def test_clipping_bounds_the_prediction():
    denoise, images, hole_weight, keys = small_problem()
    stack = sampling.grid_steps(DEFAULT, sampling.time_grid(DEFAULT, 1))
    start = jax.tree.map(lambda x: x[0], stack.t)
    out = [
        sampling.inpaint(
            denoise,
            options.SamplerConfig(clip=c),
            stack,
            start,
            images,
            hole_weight,
            keys,
        )
        for c in (True, False)
    ]
    assert jnp.abs(out[0]).max() <= 1 < jnp.abs(out[1]).max()


@pytest.mark.parametrize("kind", options.GRIDS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 250, 999, 1000])
def test_grids_fall_from_the_noise_to_the_image(kind, n):
    grid = sampling.time_grid(DEFAULT, n, kind)
    assert len(grid.times) == n + 1
    assert grid.start == 1000 and grid.times[-1] == 0
    assert np.all(np.diff(grid.times) < 0)
    if kind != "official":
        assert grid.times[0] == 1000


def test_official_grid_is_the_authors():
    """First step at their index 990, stride 10, down to 0; ours is one more."""
    grid = sampling.time_grid(DEFAULT, 100, "official")
    np.testing.assert_array_equal(grid.times[:-1], np.arange(991, 0, -10))


def test_log_snr_grid_is_uniform_where_it_can_be():
    grid = sampling.time_grid(DEFAULT, 20, "log_snr")
    level = DEFAULT.signal.hole[grid.times[:-1]]
    log_snr = level - np.log(-np.expm1(level))
    inner = np.diff(log_snr)[:-3]  # the last ones are held apart by whole steps
    np.testing.assert_allclose(inner, inner.mean(), rtol=0.1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, "uniform"), r"steps is 0; it must lie in 1 \.\. 1000"),
        ((1001, "uniform"), "steps is 1001"),
        ((10, "cubic"), "grid is 'cubic'; use one of uniform"),
    ],
)
def test_bad_grids_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        sampling.time_grid(DEFAULT, *arguments)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"method": "euler"}, "method is 'euler'; use one of ddpm, ddim"),
        ({"variance": "tiny"}, "variance is 'tiny'"),
        ({"parametrisation": "xt"}, "parametrisation is 'xt'"),
        ({"eta": 1.5}, "eta is 1.5"),
    ],
)
def test_bad_samplers_are_refused(bad, message):
    with pytest.raises(UserError, match=message):
        options.SamplerConfig(**bad)


@pytest.mark.parametrize("method", options.METHODS)
def test_how_often_the_network_is_asked_in_a_step(method):
    """Of "heun" also at the levels of arrival, and of "pc" twice at those of t."""
    denoise, images, hole_weight, keys = small_problem(1)
    stack = sampling.grid_steps(DEFAULT, sampling.time_grid(DEFAULT, 2))
    start = jax.tree.map(lambda x: x[0], stack.t)
    asked = []

    def counted(x, step):
        jax.debug.callback(lambda *at: asked.append(at), step.time, step.timesteps)
        return denoise(x, step)

    config = options.SamplerConfig(method)
    sampling.inpaint(counted, config, stack, start, images, hole_weight, keys)
    jax.effects_barrier()
    times = [int(time) for time, _ in asked]
    expected = {"heun": [1000, 500, 500, 0], "pc": [1000, 1000, 500, 500]}
    assert sorted(times, reverse=True) == expected.get(method, [1000, 500])
    assert (len(times) == 4) == (method in options.TWICE)
    for time, told in asked:  # k = t - 1 in the hole, -1 where it is known
        np.testing.assert_array_equal(told, [-1, int(time) - 1])
