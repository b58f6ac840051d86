"""The processes of score-based SDEs: their own numbers, and RAD's levels on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion import gaussian, sampling
from rad_jax.diffusion import schedule as sch
from rad_jax.diffusion.clock import make_clock
from rad_jax.diffusion.continuous import VE, VP, SubVP
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from tests.diffusion.rad_levels import check_step
from tests.golden_files import FOLDER

GOLDEN = np.load(FOLDER / "bases" / "sde_processes.npz")
LEVELS = np.load(FOLDER / "bases" / "rad_levels_sde.npz")
SIGMAS = (0.01, 348.0)
PROCESSES = {"vp": VP(), "subvp": SubVP(), "ve": VE(SIGMAS)}
SCHEDULES = {
    name: sch.make_schedule(ScheduleConfig(name, sigmas=SIGMAS)) for name in PROCESSES
}


@pytest.mark.parametrize("name", PROCESSES)
def test_marginals(name):
    """Mean and deviation at each time: theirs is float32."""
    process, u = PROCESSES[name], GOLDEN["t"].astype(np.float64)
    level = process.level(u)
    scale = process.input_scale(level)
    scale = 1.0 if scale is None else scale
    deviation = scale * np.sqrt(-np.expm1(level))
    # Data in [0, 1] with sigma: in [-1, 1] with twice as much.
    theirs = GOLDEN[f"{name}_std"] * (2 if name == "ve" else 1)
    if name == "vp":  # which loses digits in 1 - abar
        theirs, deviation = theirs**2, deviation**2
    np.testing.assert_allclose(
        scale * np.exp(0.5 * level), GOLDEN[f"{name}_mean"], 1e-5
    )
    np.testing.assert_allclose(deviation, theirs, rtol=2e-5, atol=1.5e-7)


def test_a_ve_network_of_unit_input():
    """It is given RAD's own images, and told of their noise as any of VE."""
    level = PROCESSES["ve"].level(np.array([0.1, 1.0]))
    given = {}
    for unit in (False, True):
        clock = make_clock(ScheduleConfig("ve", sigmas=SIGMAS, unit_input=unit))
        given[unit] = clock.input_scale(jnp.float32(level)), clock.exact(level)
    np.testing.assert_allclose(given[False][0][1], 696, rtol=1e-5)
    assert given[True][0] is None
    np.testing.assert_array_equal(given[True][1], given[False][1])


@pytest.mark.parametrize("name", PROCESSES)
def test_levels_tell_their_time(name):
    process, u = PROCESSES[name], np.linspace(1e-5, 1, 1001)
    told = process.told(process.level(u))
    if name == "ve":
        np.testing.assert_allclose(np.exp(told), 0.01 * 34800**u, rtol=1e-10)
    else:
        np.testing.assert_allclose(told, 999 * u, atol=1e-9)
    # float32 maps, of which soft masks are told.
    level = jnp.float32(process.level(u))
    np.testing.assert_allclose(process.told(level), told, atol=2e-4, rtol=2e-6)
    (clean,) = process.told(np.zeros(1))
    assert clean == process.clean
    assert float(process.told(jnp.zeros(1))[0]) == np.float32(process.clean)


def test_an_index_counts_from_the_noisiest():
    process = VE((0.01, 50.0), 1000)
    share = np.array([1, 500, 999]) / 999
    np.testing.assert_allclose(
        process.told(process.level(share)), [998, 499, 0], atol=1e-9
    )
    assert process.clean == process.told(np.zeros(1))[0] == 999


@pytest.mark.parametrize("kind", ["binary", "soft"])
@pytest.mark.parametrize("name", PROCESSES)
def test_levels_of_both_phases(name, kind):
    """(M1), what is told, the input's scale, and a step of RAD, at real times."""
    schedule, process = SCHEDULES[name], PROCESSES[name]
    u = LEVELS["u"]
    weight = sch.mask_to_hole_weight(schedule, jnp.float32(LEVELS[f"mask_{kind}"]))
    total = schedule.log_total
    zeros, ones = np.zeros_like(u), np.full_like(u, total)

    def two(u):
        moving = process.level(u)
        hole, known = np.append(moving, ones), np.append(zeros, moving)
        return sch.LogSignal(hole, known)

    t, s = two(u), two(0.9 * u)
    delta = sch.LogSignal(t.hole - s.hole, t.known - s.known)

    @jax.vmap
    def levels_of(*signals):
        return gaussian.Levels(*(sch.log_level(x, weight) for x in signals))

    levels = levels_of(*(sch.LogSignal(*map(np.float32, x)) for x in (t, s, delta)))

    def theirs(what):
        return LEVELS[f"{name}_{kind}_{what}"]

    np.testing.assert_allclose(levels.t[..., 0], theirs("log_abar"), 2e-6, 1e-6)
    np.testing.assert_allclose(levels.s[..., 0], theirs("log_abar_s"), 2e-6, 1e-6)
    told = schedule.clock.told(levels.t)[..., 0]
    expected = np.log(theirs("told")) if name == "ve" else theirs("told")
    np.testing.assert_allclose(told, expected, rtol=1e-5, atol=2e-3)
    scale = schedule.clock.input_scale(levels.t)
    if scale is not None:
        np.testing.assert_allclose(scale[..., 0], theirs("scale"), rtol=2e-5)
    else:
        assert (theirs("scale") == 1).all()

    check_step(levels, LEVELS, f"{name}_{kind}")


@pytest.mark.parametrize("name", PROCESSES)
def test_a_time_between_steps_is_that_of_the_table_at_a_step(name):
    schedule = SCHEDULES[name]
    times = np.array([1, 400, 1000, 1001, 1500, 2000])
    table = sch.steps(schedule, times, times - 1)
    found = jax.vmap(lambda t: sch.step_at(schedule, t))(jnp.float32(times))
    for a, b in ((found.t, table.t), (found.timesteps, table.timesteps)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 2e-5, 2e-4), a, b)
    np.testing.assert_array_equal(found.time, times)
    assert not np.any(found.delta.hole) and not np.any(found.delta.known)
    clean = found.t.known[:3]
    np.testing.assert_array_equal(clean, 0)
    np.testing.assert_array_equal(
        found.timesteps[:3, 0], np.float32(schedule.clock.clean)
    )


def test_discrete_and_continuous_vp_agree_as_one_over_n():
    """Every level of both phases, soft masks included."""
    masks = jnp.array([[0.0, 0.2, 0.5, 0.8, 1.0]])
    errors = []
    for n in (1000, 4000, 16000):
        ends = 0.1 / n, 20 / n
        tables = [
            sch.make_schedule(ScheduleConfig("linear", n, n, ends, ends)),
            sch.make_schedule(ScheduleConfig("vp", n, n)),
        ]
        signal = []
        for table in tables:
            share = np.asarray(sch.mask_to_hole_weight(table, masks), np.float64)[0]
            level = share * table.signal.hole + (1 - share) * table.signal.known
            signal.append(np.exp(level))
        errors.append(np.abs(signal[0] - signal[1]).max())
    assert errors[0] < 1.5e-3
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 4, rtol=0.05)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("grid", ["uniform", "quadratic", "log_snr"])
def test_grids(name, grid):
    found = sampling.time_grid(SCHEDULES[name], 20, grid)
    assert found.times[0] == 1000 and found.times[-1] == 0
    assert (np.diff(found.times) < 0).all()


@pytest.mark.parametrize(
    "sigmas", [(0.0, 1.0), (1.0, 0.5), (0.1, np.inf), (-1.0, 1.0), (np.nan, 1.0)]
)
def test_sigmas_out_of_range(sigmas):
    with pytest.raises(UserError, match=r"schedule\.sigmas is .* 0 < least < largest"):
        ScheduleConfig("ve", sigmas=sigmas)
