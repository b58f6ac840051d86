"""iDDPM's process: improved-diffusion's own numbers, and RAD's levels on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.convert.presets import PRESETS, base_process
from rad_jax.diffusion import gaussian, sampling
from rad_jax.diffusion import schedule as sch
from rad_jax.diffusion.betas import make_betas, scaled_ends
from rad_jax.diffusion.clock import DiscreteClock, time_timestep
from rad_jax.diffusion.losses import LossConfig, hybrid_loss
from rad_jax.diffusion.respacing import space_timesteps
from tests.diffusion.rad_levels import check_step
from tests.golden_files import FOLDER

GOLDEN = np.load(FOLDER / "bases" / "iddpm_diffusion.npz")
LEVELS = np.load(FOLDER / "bases" / "rad_levels_iddpm.npz")
RESCALED = sch.make_schedule(base_process("cosine", 4000, rescaled=True))
RAW = sch.make_schedule(base_process("cosine", 4000, rescaled=False))
CHAINS = {"full": (RESCALED, "4000"), "r100": (RESCALED, "100"), "cond": (RAW, "250")}
"""By tag: the schedule, and the respaced chain."""


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_tables(kind):
    betas = make_betas(kind, 4000, scaled_ends(4000))
    index = GOLDEN["index4000"]
    np.testing.assert_allclose(betas[index], GOLDEN[f"{kind}4000_beta"], rtol=1e-12)
    schedule = sch.make_schedule(base_process(kind, 4000, rescaled=False))
    assert isinstance(schedule.clock, DiscreteClock)
    log_alpha_bar = schedule.clock.table
    expected = np.log(GOLDEN[f"{kind}4000_alpha_bar"])
    np.testing.assert_allclose(log_alpha_bar[1 + index], expected, rtol=1e-9)


@pytest.mark.parametrize("text", ["100", "250", "50", "ddim50", "10,20,70"])
def test_respaced_chains(text):
    expected = GOLDEN[f"spaced_{text.replace(',', '_')}"]
    np.testing.assert_array_equal(space_timesteps(4000, text), expected)


def steps_of(tag):
    """The steps of the stored indices of a chain, stacked."""
    schedule, respacing = CHAINS[tag]
    visited = np.append(0, 1 + space_timesteps(4000, respacing))
    index = GOLDEN[f"{tag}_t"]
    return sch.steps(schedule, visited[index + 1], visited[index])


def images(name):
    return jnp.moveaxis(jnp.asarray(GOLDEN[name]), 1, -1)


@pytest.mark.parametrize("tag", CHAINS)
def test_a_reverse_step_is_theirs(tag):
    """What it is told, the marginal, the mean and the sample, clipped; per image."""
    step = steps_of(tag)
    np.testing.assert_array_equal(step.timesteps[:, 1], GOLDEN[f"{tag}_told"])
    clean = -CHAINS[tag][0].config.timestep_scale
    np.testing.assert_array_equal(step.timesteps[:, 0], np.float32(clean))

    @jax.vmap
    def reverse(step, x0, noise, output, z):
        levels = gaussian.pixel_levels(step, jnp.ones((8, 8, 1)))
        x_t = gaussian.forward_marginal(x0, levels.t, noise)
        predicted = gaussian.predict_x0(x_t, output[..., :3], levels.t, "eps")
        clipped = jnp.clip(predicted, -1, 1)
        mean = gaussian.posterior_mean(clipped, x_t, levels)
        log_variance = gaussian.learned_log_variance(
            output[..., 3:], levels, step.variance_floor
        )
        sample = gaussian.ancestral_step(x_t, clipped, levels, log_variance, z)
        return x_t, clipped, mean, log_variance, sample

    found = reverse(step, *map(images, ("x0", "noise", "model_output", "z")))
    names = ("x_t", "pred_xstart", "mean", "log_variance", "sample")
    for name, ours in zip(names, found, strict=True):
        theirs = images(f"{tag}_{name}")
        # Of a step that arrives clean no noise has the variance; theirs is taken from
        # the chain, ours from the whole process.
        first = 1 if name == "log_variance" and tag != "full" else 0
        np.testing.assert_allclose(
            ours[first:], theirs[first:], rtol=2e-5, atol=2e-5, err_msg=name
        )


def test_the_loss_is_theirs():
    """RESCALED_MSE: the bound, in bits, times T / 1000 beside the MSE."""
    config = LossConfig(vlb_weight=4.0)
    names = ("model_output", "x0", "noise", "full_x_t")

    @jax.vmap
    def loss(step, output, x0, noise, x_t):
        ones = jnp.ones((8, 8, 1))
        return hybrid_loss(config, output, x0, noise, x_t, step, ones)

    total, parts = loss(steps_of("full"), *map(images, names))
    np.testing.assert_allclose(parts["mse"], GOLDEN["full_loss_mse"], rtol=1e-5)
    vlb, theirs = 4 * np.asarray(parts["vlb"]), GOLDEN["full_loss_vb"]
    np.testing.assert_allclose(total, parts["mse"] + vlb, rtol=1e-5)
    # Their decoder has a tanh for the normal distribution function, their last step a
    # clipped x0 in its bound, which trains nothing.
    np.testing.assert_allclose(vlb[1:3], theirs[1:3], rtol=1e-4)
    np.testing.assert_allclose(vlb[0], theirs[0], rtol=1e-2)


@pytest.mark.parametrize("kind", ["binary", "soft"])
def test_levels_of_both_phases(kind):
    """(M1) on the cosine of 4000: levels, what is told, and a step of RAD."""
    times = np.round(LEVELS["u"] * 4000).astype(int)
    t = np.concatenate([times, 4000 + times])
    s = np.concatenate([times * 9 // 10, 4000 + times * 9 // 10])
    step = sch.steps(RESCALED, t, s)
    mask = jnp.asarray(LEVELS[f"mask_{kind}"], jnp.float32)
    weight = sch.mask_to_hole_weight(RESCALED, mask)
    levels = jax.vmap(lambda step: gaussian.pixel_levels(step, weight))(step)
    expected = LEVELS[f"iddpm_{kind}_log_abar"]
    np.testing.assert_allclose(levels.t[..., 0], expected, rtol=2e-6, atol=1e-6)
    told = RESCALED.clock.told(levels.t)[..., 0]
    np.testing.assert_allclose(told, LEVELS[f"iddpm_{kind}_told"], atol=2e-3)
    if kind == "binary":
        known, hole = (step.timesteps[:, i, None] for i in (0, 1))
        hole_first = np.where(LEVELS["mask_binary"].ravel() == 1, hole, known)
        stored = LEVELS["iddpm_binary_told"].reshape(len(t), -1)
        np.testing.assert_allclose(hole_first, stored, rtol=1e-6)

    whole = [i for i, u in enumerate([*LEVELS["u"]] * 2) if u > 0.01]  # s is a time
    check_step(levels, LEVELS, f"iddpm_{kind}", whole)


def test_the_whole_time_goes_on_in_phase_2():
    """One timestep for the image: of 1000 where rescaled, of 4000 where not."""
    for schedule in (RESCALED, RAW):
        largest, t = schedule.clock.span, np.array([4000, 8000])
        told = sch.steps(schedule, t, t - 1).timesteps
        found = time_timestep(schedule.clock, jnp.asarray(told))[:, 0]
        scale = schedule.config.timestep_scale
        np.testing.assert_allclose(found, [largest - scale, 2 * largest - scale])


def test_grids_have_the_base_s_times():
    grid = sampling.time_grid(RESCALED, 100, "uniform")
    assert grid.times[0] == 4000 and len(grid.times) == 101


def test_presets_of_guided_diffusion_have_its_process():
    for name in ("imagenet64_cond", "ffhq256"):
        process = PRESETS[name].schedule
        assert process == sch.ScheduleConfig(kind=process.kind)
