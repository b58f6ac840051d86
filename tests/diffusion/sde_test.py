"""Steps of the reverse SDE: score_sde's own numbers, and RAD exact by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion import gaussian, options, sampling, sde
from rad_jax.diffusion import schedule as sch
from rad_jax.diffusion.continuous import BETA_MAX, BETA_MIN, VE, VP
from rad_jax.diffusion.schedule_config import ScheduleConfig
from tests import oracles
from tests.golden_files import FOLDER

GOLDEN = np.load(FOLDER / "bases" / "sde_processes.npz")
TIMES = GOLDEN["step_t"].astype(np.float64)
SIGMAS = (0.01, 348.0)


def images(name):
    """Of each image and time that there is, (.., h, w, c), float64."""
    return np.moveaxis(GOLDEN[name].astype(np.float64), -3, -1)


def wide(level):
    """A level for every pixel of the golden images."""
    return jnp.full((8, 8, 1), level, jnp.float32)


def assert_near(ours, theirs, scale=None):
    """To 2e-5 of the largest."""
    size = np.abs(theirs if scale is None else scale).max()
    np.testing.assert_allclose(np.asarray(ours) / size, theirs / size, atol=2e-5)


class Exploding:
    """score_sde's VE images as ours, and back.

    Both in [0, 1] there and in [-1, 1] here are of no matter: steps are linear, and of
    sigma and image twice as large they are twice as large.
    """

    def __init__(self, time):
        index = int(time * 1999)
        self.sigma_t = 2 * 0.01 * 34800 ** (index / 1999)
        self.sigma_s = 2 * 0.01 * 34800 ** ((index - 1) / 1999) if index else 0.0
        self.t, self.s = (-np.log1p(x**2) for x in (self.sigma_t, self.sigma_s))
        self.levels = gaussian.Levels(wide(self.t), wide(self.s), wide(self.t - self.s))

    def ours(self, x):
        return jnp.float32(np.exp(self.t / 2) * 2 * x)

    def theirs(self, x):
        return np.exp(-self.s / 2) * np.asarray(x, np.float64) / 2


@pytest.mark.parametrize("i", range(len(TIMES)))
@pytest.mark.parametrize("step", ["reverse_diffusion", "ancestral"])
def test_ve_predictors(step, i):
    """The network gives the score, of which ours is times sigma."""
    there = Exploding(TIMES[i])
    x = images("x") * float(GOLDEN["x_ve_scale"])
    score, noise = images("net"), jnp.float32(images("z0"))
    x_t = there.ours(x)
    eps = jnp.float32(-score * there.sigma_t / 2)
    for j in range(2):
        x0 = gaussian.predict_x0(x_t[j], eps[j], there.levels.t, "eps")
        for what, z in (("mean", jnp.zeros_like(noise[j])), ("x", noise[j])):
            if step == "ancestral":
                low, _ = gaussian.log_variance_range(there.levels, 0.0)
                found = gaussian.ancestral_step(x_t[j], x0, there.levels, low, z)
            else:
                found = sde.reverse_diffusion_step(x_t[j], x0, there.levels, z)
            expected = images(f"ve_{step}_{what}")[i, j]
            if what == "x" and there.s == 0:
                continue  # theirs has noise still, and its mean is what it returns
            assert_near(there.theirs(found), expected)


@pytest.mark.parametrize("i", range(3))  # at the fourth, pixels arrive beyond clean
def test_vp_euler_maruyama(i):
    """Its b is beta of the time over N; ours is the integral."""
    u = TIMES[i]
    b = (BETA_MIN + (BETA_MAX - BETA_MIN) * u) / 1000
    level = VP().level(np.array([u]))[0]
    levels = gaussian.Levels(wide(level), wide(level + b), wide(-b))
    x, eps, noise = (jnp.float32(images(name)) for name in ("x", "net", "z0"))
    for j in range(2):
        x0 = gaussian.predict_x0(x[j], eps[j], levels.t, "eps")
        found = sde.euler_maruyama_step(x[j], x0, levels, noise[j])
        assert_near(found, images("vp_euler_maruyama_x")[i, j])


@pytest.mark.parametrize("i", range(len(TIMES)))
def test_vp_ancestral_is_ours_with_the_large_variance(i):
    index = int(TIMES[i] * 999)
    table = np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000)))
    t, s = table[index], table[index - 1] if index else 0.0
    levels = gaussian.Levels(wide(t), wide(s), wide(t - s))
    # The score is divided by the deviation of the continuous process at that time.
    at = np.argmin(np.abs(GOLDEN["t"] - TIMES[i]))
    assert np.isclose(GOLDEN["t"][at], TIMES[i])
    share = np.sqrt(-np.expm1(t)) / GOLDEN["vp_std"][at]
    x, noise = (jnp.float32(images(name)) for name in ("x", "z0"))
    eps = jnp.float32(images("net") * share)
    for j in range(2):
        x0 = gaussian.predict_x0(x[j], eps[j], levels.t, "eps")
        _, large = gaussian.log_variance_range(levels, 0.0)
        what, z = ("x", noise[j]) if s < 0 else ("mean", noise[j])
        found = gaussian.ancestral_step(x[j], x0, levels, large, z)
        assert_near(found, images(f"vp_ancestral_{what}")[i, j])


@pytest.mark.parametrize("i", range(len(TIMES)))
@pytest.mark.parametrize("name", ["ve", "vp"])
def test_langevin(name, i):
    """With their size, of norms over the batch; a uniform map is theirs."""
    snr = 0.075 if name == "ve" else 0.16
    x, net, noise = images("x"), images("net"), images("z0")
    if name == "ve":
        sigma = VE(SIGMAS).level(TIMES[i : i + 1])[0]
        level, alpha = sigma, 1.0
        sigma = np.sqrt(np.expm1(-level))
        scale = np.exp(level / 2) * 2
        x = x * float(GOLDEN["x_ve_scale"])
        eps = -net * sigma / 2
    else:
        level, scale = VP().level(TIMES[i : i + 1])[0], 1.0
        index = int(TIMES[i] * 999)
        alpha, eps = 1 - np.linspace(1e-4, 0.02, 1000)[index], net
    lengths = [np.linalg.norm(a.reshape(2, -1), axis=1).mean() for a in (noise, eps)]
    size = 2 * alpha * (snr * lengths[0] / lengths[1]) ** 2
    found = jax.vmap(sde.along_score, (0, 0, None, None, 0))(
        jnp.float32(scale * x),
        jnp.float32(eps),
        wide(level),
        jnp.float32(size),
        jnp.float32(noise),
    )
    assert_near(np.asarray(found, np.float64) / scale, images(f"{name}_langevin_x")[i])


def test_a_langevin_step_is_of_its_own_image_and_hole():
    """Not of its batch; known pixels stay, and do not count in its size."""
    x, eps, noise = (jnp.float32(images(name)) for name in ("x", "net", "z0"))
    hole = jnp.zeros((8, 8, 1)).at[2:5].set(1)
    level = jnp.where(hole > 0, -1.5, 0.0)
    x0 = gaussian.predict_x0(x[0], eps[0], level, "eps")
    found = sde.langevin_step(x[0], x0, level, 0.2, noise[0])
    np.testing.assert_array_equal(found[:2], x[0, :2])
    inside = x[0, 2:5], x0[2:5], level[2:5], 0.2, noise[0, 2:5]
    np.testing.assert_allclose(found[2:5], sde.langevin_step(*inside), atol=1e-6)


SIZE = 4
DATA = oracles.smooth_gaussian(SIZE)
TRUTH = np.random.default_rng(0).multivariate_normal(DATA.mean, DATA.covariance)
HOLE = np.zeros((SIZE, SIZE))
HOLE[1:3, 1:] = 1
COUNT = 20_000
PROCESSES = (
    "ve",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("vp", "subvp")),
)


def filled(kind, config, num_steps, grid="uniform"):
    """The hole's pixels of many fillings of one image, by the ideal denoiser."""
    schedule = sch.make_schedule(ScheduleConfig(kind, sigmas=(0.01, 50.0)))
    times = sampling.time_grid(schedule, num_steps, grid)
    denoise = oracles.oracle_denoiser(DATA, schedule, HOLE, times.times)
    stack = sampling.grid_steps(schedule, times)
    start = sch.LogSignal(*(np.float32(x[times.start]) for x in schedule.signal))
    weight = sch.mask_to_hole_weight(schedule, jnp.float32(HOLE))
    shape = (COUNT, SIZE, SIZE, 1)
    image = jnp.broadcast_to(jnp.float32(TRUTH).reshape(1, SIZE, SIZE, 1), shape)
    keys = jax.random.split(jax.random.key(5), COUNT)
    weights = jnp.broadcast_to(weight[None], shape)
    out = sampling.inpaint(denoise, config, stack, start, image, weights, keys)
    out = np.asarray(out, np.float64).reshape(COUNT, -1)
    known = HOLE.ravel() == 0
    np.testing.assert_array_equal(
        out[:, known], TRUTH[None, known].astype(np.float32).repeat(COUNT, 0)
    )
    return out[:, ~known]


def errors_of(out):
    """Of the mean in its Monte-Carlo errors, and of the covariance relative to it."""
    mean, covariance = DATA.conditional(HOLE.ravel() == 0, TRUTH[HOLE.ravel() == 0])
    of_mean = np.abs(out.mean(0) - mean) / np.sqrt(np.diag(covariance) / len(out))
    of_covariance = np.linalg.norm(np.cov(out.T) - covariance)
    return of_mean.max(), of_covariance / np.linalg.norm(covariance)


# Monte-Carlo error alone is 0.02.
STEPS = {
    "ddpm": (100, "uniform", 0.16),
    "ddim": (100, "uniform", 0.12),
    "dpm++": (20, "log_snr", 0.07),
    "heun": (50, "log_snr", 0.05),
    "euler_maruyama": (200, "uniform", 0.08),
    "reverse_diffusion": (200, "uniform", 0.08),
    "pc": (100, "uniform", 0.16),  # of small corrections: they err by their size
}


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("method", STEPS)
def test_every_sampler_fills_the_conditional(method, kind):
    num_steps, grid, most = STEPS[method]
    config = options.SamplerConfig(method, variance="small", clip=False, snr=0.02)
    of_mean, of_covariance = errors_of(filled(kind, config, num_steps, grid))
    assert of_covariance < most
    assert of_mean < 5


def test_all_samplers_are_tried():
    """But for "renoise", which needs draws of the clean image, not their mean."""
    assert {*STEPS, "renoise"} == set(options.METHODS)
