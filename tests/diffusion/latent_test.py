"""The process of latent diffusion: diffusers' own numbers, and RAD's levels on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_record import FORMAT, NAMED_FORMAT, record_of
from rad_jax.convert.choices import Choices
from rad_jax.convert.presets import schedule_of
from rad_jax.diffusion import betas, gaussian
from rad_jax.diffusion import schedule as sch
from rad_jax.diffusion.clock import DiscreteClock
from rad_jax.errors import UserError
from tests.convert.small import CONFIG
from tests.diffusion.rad_levels import check_step
from tests.golden_files import FOLDER

GOLDEN = np.load(FOLDER / "bases" / "sd_scheduler.npz")
LEVELS = np.load(FOLDER / "bases" / "rad_levels_latent.npz")
TOTALS = {"sd": -5.368718690922698, "ldm": -8.85754511796689}


def latent(ends):
    return sch.ScheduleConfig("scaled_linear", hole_betas=ends, known_betas=ends)


SCHEDULES = {
    "sd": sch.make_schedule(latent(betas.STABLE_DIFFUSION)),
    "ldm": sch.make_schedule(latent(betas.LATENT_VQ)),
}


@pytest.mark.parametrize(
    "name, ends",
    [
        ("sd", betas.STABLE_DIFFUSION),
        ("ldm_vq4", betas.LATENT_VQ),
        ("ldm_churches", betas.LATENT_CHURCHES),
    ],
)
def test_tables(name, ends):
    """Phases and clock alike: a uniform level has the network's own timestep."""
    schedule = sch.make_schedule(latent(ends))
    assert isinstance(schedule.clock, DiscreteClock)
    index = GOLDEN["index"]
    expected = GOLDEN[f"{name}_alpha_bar_float64"]
    for table in (schedule.clock.table, schedule.signal.hole):
        np.testing.assert_allclose(np.exp(table[1 + index]), expected, rtol=1e-12)
    step = sch.steps(schedule, 1 + index, index)
    np.testing.assert_array_equal(step.timesteps[:, 1], index.astype(np.float32))
    np.testing.assert_array_equal(step.timesteps[:, 0], np.float32(-1))


@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("kind, ours", [("epsilon", "eps"), ("v_prediction", "v")])
def test_ddim_steps(kind, ours, eta):
    """But for the last, which with theirs stops at one step of noise."""
    x, output, noise = (
        jnp.moveaxis(jnp.asarray(GOLDEN[name]), 1, -1)
        for name in ("x", "model_output", "variance_noise")
    )
    assert GOLDEN["ddim50_timesteps"][[0, 1, -1]].tolist() == [981, 961, 1]
    for timestep in (981, 501):
        t = np.array([1 + timestep])
        step = jax.tree.map(lambda a: a[0], sch.steps(SCHEDULES["sd"], t, t - 20))
        levels = gaussian.pixel_levels(step, jnp.ones((8, 8, 1)))
        for i in range(2):
            x0 = gaussian.predict_x0(x[i], output[i], levels.t, ours)
            theirs = np.moveaxis(GOLDEN[f"{kind}_{timestep}_x0"], 1, -1)[i]
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(x0 / scale, theirs / scale, atol=2e-6)
            found = gaussian.ddim_step(x[i], x0, levels, float(eta), noise[i])
            theirs = np.moveaxis(GOLDEN[f"ddim_{kind}_{timestep}_eta{eta}"], 1, -1)[i]
            np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["binary", "soft"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_of_both_phases(name, kind):
    """(M1) on latents' process: levels, what is told, and a step of RAD."""
    schedule = SCHEDULES[name]
    np.testing.assert_allclose(schedule.log_total, TOTALS[name], rtol=1e-12)
    times = np.round(LEVELS["u"] * 1000).astype(int)
    t = np.concatenate([times, 1000 + times])
    s = np.concatenate([times * 9 // 10, 1000 + times * 9 // 10])
    step = sch.steps(schedule, t, s)
    mask = jnp.asarray(LEVELS[f"mask_{kind}"], jnp.float32)
    weight = sch.mask_to_hole_weight(schedule, mask)
    levels = jax.vmap(lambda step: gaussian.pixel_levels(step, weight))(step)
    expected = LEVELS[f"{name}_{kind}_log_abar"]
    np.testing.assert_allclose(levels.t[..., 0], expected, rtol=2e-6, atol=1e-6)
    told = schedule.clock.told(levels.t)[..., 0]
    np.testing.assert_allclose(told, LEVELS[f"{name}_{kind}_told"], atol=2e-3)
    assert schedule.clock.input_scale(levels.t) is None
    np.testing.assert_array_equal(LEVELS[f"{name}_{kind}_scale"], 1)
    whole = [i for i, u in enumerate([*LEVELS["u"]] * 2) if u > 0.01]  # s is a time
    check_step(levels, LEVELS, f"{name}_{kind}", whole)


def test_records_say_it():
    """An older version must not take it for ADM's; of that the record is as it was."""
    config = latent(betas.STABLE_DIFFUSION)
    record = record_of(Model(CONFIG, config, "eps", {}), {})
    assert record["format"] == NAMED_FORMAT
    assert record["schedule"]["hole_betas"] == betas.STABLE_DIFFUSION
    plain = record_of(Model(CONFIG, sch.ScheduleConfig(), "eps", {}), {})
    assert plain["format"] == FORMAT


def test_its_ends_are_not_guessed():
    with pytest.raises(UserError, match="scaled_linear is of networks in latents"):
        schedule_of(Choices(noise_schedule="scaled_linear"))
