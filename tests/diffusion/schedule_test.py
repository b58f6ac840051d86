"""(M1) against textbook DDPM, the authors' numbers, and its own inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion import schedule as sch
from rad_jax.diffusion.betas import cosine_betas, linear_betas
from rad_jax.diffusion.clock import DiscreteClock, time_timestep
from rad_jax.errors import UserError
from tests.golden_files import golden, golden_mask

DEFAULT = sch.make_schedule(sch.ScheduleConfig())


def level(schedule, t, mask):
    hole_weight = sch.mask_to_hole_weight(schedule, jnp.float32(mask))
    step = sch.steps(schedule, np.array([t]), np.array([t - 1]))
    step = jax.tree.map(lambda x: x[0], step)
    return (
        sch.log_level(step.t, hole_weight),
        sch.log_level(step.delta, hole_weight),
        step,
    )


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_uniform_masks_are_ddpm(kind):
    config = sch.ScheduleConfig(kind=kind, hole_steps=50, known_steps=50)
    schedule = sch.make_schedule(config)
    betas = cosine_betas(50) if kind == "cosine" else linear_betas(50, 1e-4, 0.02)
    alpha_bar = np.cumprod(1 - betas)
    for t in (1, 2, 25, 50):
        full, full_step, _ = level(schedule, t, np.ones((2, 3)))
        np.testing.assert_allclose(np.exp(full), alpha_bar[t - 1], rtol=2e-6)
        np.testing.assert_allclose(-np.expm1(full_step), betas[t - 1], rtol=2e-6)
        empty, empty_step, _ = level(schedule, t, np.zeros((2, 3)))
        assert not np.any(empty) and not np.any(empty_step)
        known, known_step, _ = level(schedule, t + 50, np.zeros((2, 3)))
        np.testing.assert_allclose(np.exp(known), alpha_bar[t - 1], rtol=2e-6)
        np.testing.assert_allclose(-np.expm1(known_step), betas[t - 1], rtol=2e-6)
        held, held_step, _ = level(schedule, t + 50, np.ones((2, 3)))
        np.testing.assert_allclose(np.exp(held), alpha_bar[-1], rtol=2e-6)
        assert not np.any(held_step)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("t1, t2", [(1000, 1000), (50, 20), (10, 0)])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_time_timestep_is_the_holes_and_goes_on(kind, t1, t2, offset):
    config = sch.ScheduleConfig(kind, t1, t2, timestep_offset=offset)
    schedule = sch.make_schedule(config)
    t = np.arange(1, t1 + t2 + 1)
    both = sch.steps(schedule, t, t - 1).timesteps
    told = np.asarray(time_timestep(schedule.clock, jnp.asarray(both)))
    assert told.shape == (t1 + t2, 1) and (np.diff(told[:, 0]) >= 0).all()
    np.testing.assert_array_equal(told[:t1, 0], both[:t1, 1])
    np.testing.assert_array_equal(told[t1:, 0], 1000 + both[t1:, 0])
    if (t1, t2) == (1000, 1000):  # ADM's steps, in either kind
        np.testing.assert_allclose(told[:, 0], t - 1 + offset, atol=1e-3)


@pytest.mark.parametrize("t1, t2", [(1000, 1000), (200, 70), (30, 500), (10, 0)])
def test_all_pixels_end_alike(t1, t2):
    config = sch.ScheduleConfig(
        hole_steps=t1,
        known_steps=t2,
        hole_betas=(1e-3, 0.03),
        known_betas=(2e-4, 0.05),
    )
    schedule = sch.make_schedule(config)
    masks = jnp.linspace(0, 1, 12).reshape(3, 4)
    end, _, _ = level(schedule, schedule.num_steps, masks)
    if t2:
        np.testing.assert_allclose(end, schedule.log_total, rtol=1e-6)
    hole_end, _, _ = level(schedule, t1, masks)
    nu = -np.expm1(schedule.log_total)
    np.testing.assert_allclose(
        np.exp(hole_end[..., 0]), 1 - nu * np.float64(masks), rtol=1e-5
    )


def test_levels_fall_for_every_mask_value(key):
    masks = jax.random.uniform(key, (4, 4))
    times = np.arange(1, DEFAULT.num_steps + 1)
    stack = sch.steps(DEFAULT, times, times - 1)
    hole_weight = sch.mask_to_hole_weight(DEFAULT, masks)
    deltas = jax.vmap(lambda d: sch.log_level(d, hole_weight))(stack.delta)
    assert np.all(np.asarray(deltas) < 0)


def test_deltas_keep_their_digits():
    """In float32 the difference of two levels near T1 would be off by 3e-5."""
    times = np.arange(1, 1001)
    stack = sch.steps(DEFAULT, times, times - 1)
    np.testing.assert_allclose(
        -np.expm1(np.float64(stack.delta.hole)),
        linear_betas(1000, 1e-4, 0.02),
        rtol=1e-7,
    )


def test_levels_agree_with_the_authors():
    for kind in ("binary", "soft"):
        mask = golden_mask(kind)
        for j in (0, 1, 7, 250, 500, 998, 999, 1000, 1001, 1007, 1500, 1998, 1999):
            t_level, delta, _ = level(DEFAULT, j + 1, mask)
            # Theirs is a float32 product of up to 2000 factors, which drifts by up to
            # 6e-6, and 1 - bbar at the noisy end, right to 1e-8 there.
            ours, theirs = np.exp(t_level)[..., 0], golden(f"{kind}_t{j}_a_bar")
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
            noisy = theirs < 1e-3
            np.testing.assert_allclose(ours[noisy], theirs[noisy], rtol=1e-5, atol=1e-8)
            # A difference of two float32 numbers near 1: right to 2e-7.
            np.testing.assert_allclose(
                -np.expm1(delta)[..., 0], golden(f"{kind}_t{j}_b"), rtol=1e-5, atol=2e-7
            )


def test_timesteps_agree_with_the_authors():
    """Their table is ours plus one, read in float32 1 - bbar (a step is 8e-7 there)."""
    config = sch.ScheduleConfig(timestep_offset=1)
    shifted = sch.make_schedule(config)
    for kind in ("binary", "soft"):
        for j in (0, 1, 7, 250, 500, 999, 1000, 1500, 1998, 1999):
            t_level, _, _ = level(DEFAULT, j + 1, golden_mask(kind))
            ours = shifted.clock.told(t_level)[..., 0]
            theirs = golden(f"{kind}_t{j}_timestep_official")
            np.testing.assert_allclose(ours, theirs, atol=0.08 if j > 1900 else 0.02)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_timestep_map_inverts_ddpm(kind):
    schedule = sch.make_schedule(sch.ScheduleConfig(kind=kind))
    k = jnp.arange(-1, 1000, dtype=jnp.float32)
    assert isinstance(schedule.clock, DiscreteClock)
    level = jnp.float32(schedule.clock.table)
    np.testing.assert_allclose(schedule.clock.told(level), k, atol=2e-3)


def test_timesteps_of_phase_one_are_exact_integers():
    times = np.arange(1, 2001)
    timesteps = sch.steps(DEFAULT, times, times - 1).timesteps
    np.testing.assert_array_equal(timesteps[:1000, 1], np.arange(1000))
    np.testing.assert_array_equal(timesteps[:1000, 0], -1)
    np.testing.assert_array_equal(timesteps[1000:, 1], 999)
    np.testing.assert_allclose(timesteps[1000:, 0], np.arange(1000), atol=1e-4)


def test_hole_share_is_accurate_everywhere():
    masks = np.concatenate([10.0 ** np.arange(-12, 0), 1 - 10.0 ** -np.arange(1, 7)])
    masks = np.float32(masks)
    hole_weight = sch.mask_to_hole_weight(DEFAULT, jnp.asarray(masks)[None])[0, :, 0]
    nu = -np.expm1(DEFAULT.log_total)
    exact = np.log1p(-nu * np.float64(masks)) / DEFAULT.log_total
    np.testing.assert_allclose(hole_weight, exact, rtol=1e-6)
    ends = sch.mask_to_hole_weight(DEFAULT, jnp.array([[0.0, 1.0]]))
    np.testing.assert_array_equal(ends[0, :, 0], [0, 1])


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"kind": "quartic"}, "schedule.kind is 'quartic'"),
        ({"hole_steps": 0}, "schedule.hole_steps must be >= 1"),
        ({"base_steps": 0}, "schedule.base_steps is 0; give 1 or more"),
        ({"base_steps": 20}, "linear betas of so few are no probabilities, give more"),
        ({"timestep_scale": 0.0}, "schedule.timestep_scale is 0.0; it must be pos"),
        ({"timestep_scale": float("nan")}, "schedule.timestep_scale is nan; it must"),
        ({"hole_betas": (0.0, 0.02)}, "schedule.hole_betas must satisfy"),
        ({"known_betas": (0.5, 0.02)}, "schedule.known_betas must satisfy"),
    ],
)
def test_bad_values_are_refused(bad, message):
    with pytest.raises(UserError, match=message):
        sch.ScheduleConfig(**bad)


def test_steps_refuse_times_out_of_order():
    with pytest.raises(ValueError, match="0 <= s < t <= 2000"):
        sch.steps(DEFAULT, np.array([5]), np.array([5]))
