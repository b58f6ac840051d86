"""What holds of every method: known pixels, batches, respacing, and errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.baselines import ddnm, ddrm, deqir, mcg, repaint, score_sde
from rad_jax.baselines.chain import respaced_times, strided_times
from rad_jax.baselines.methods import MODULES
from rad_jax.errors import UserError
from tests.baselines.golden_runs import (
    SCHEDULE,
    denoiser,
    file,
    images_and_masks,
    own_noise,
)
from tests.models.adm_files import quick_jit

SHORT = {"repaint": {"jump_length": 2, "jump_samples": 2}}


def fill(name, y, masks, noise, preset="fair", **changes):
    module = MODULES[name]
    settings = dataclasses.replace(
        module.PRESETS[preset], **{"steps": 10, **SHORT.get(name, {}), **changes}
    )
    return quick_jit(
        lambda y, masks: module.fill(
            denoiser("analytic"), SCHEDULE, settings, y, masks, noise
        )
    )(y, masks)


@pytest.mark.parametrize("name", MODULES)
def test_fair_keeps_known_pixels_and_looks_at_no_others(name):
    y, masks = images_and_masks("mcg", "/box")
    noise = own_noise(y)
    filled = fill(name, y, masks, noise).images
    hole = np.array(masks) == 1
    np.testing.assert_array_equal(np.array(filled)[~hole], np.array(y)[~hole])
    hidden = jnp.where(masks[..., None] == 1, jnp.nan, y)
    np.testing.assert_array_equal(fill(name, hidden, masks, noise).images, filled)
    assert np.isfinite(filled).all() and (filled[hole] != y[hole]).any()


@pytest.mark.parametrize("name", MODULES)
def test_an_image_does_not_depend_on_its_batch(name):
    y, masks = images_and_masks("mcg", "/irregular")
    both = fill(name, y, masks, own_noise(y)).images
    alone = fill(name, y[1:], masks[1:], own_noise(y[1:], first=1)).images
    np.testing.assert_allclose(alone[0], both[1], atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_a_hole_of_everything_is_a_sample(name):
    y, masks = images_and_masks("mcg", "/box")
    filled = fill(name, y, jnp.ones_like(masks), own_noise(y)).images
    assert np.isfinite(filled).all()


@pytest.mark.parametrize("name", ["repaint", "ddrm", "score_sde", "mcg"])
def test_published_does_not_paste(name):
    """Their official programs end with known pixels that are off by about 0.01."""
    y, masks = images_and_masks("mcg", "/box")
    known = np.array(masks) == 0
    filled = np.array(fill(name, y, masks, own_noise(y), "published").images)
    apart = np.abs(filled - np.array(y))[known]
    assert 0 < apart.max() < 0.05


def test_published_mcg_couples_images_and_fair_does_not():
    y, masks = images_and_masks("mcg", "/box")
    noise = own_noise(y)
    other = y.at[0].set(-y[0])
    for norm, same in (("image", True), ("batch", False)):
        one, two = (fill("mcg", x, masks, noise, norm=norm).images for x in (y, other))
        assert bool((one[1] == two[1]).all()) == same


def test_mcgs_gradient_ends_where_nothing_is_off():
    """At a norm of 0 the gradient is 0, not NaN: known pixels that are predicted."""
    y, masks = images_and_masks("mcg", "/box")
    filled = fill("mcg", jnp.zeros_like(y), masks, lambda number: jnp.zeros_like(y))
    assert np.isfinite(filled.images).all()


def test_soft_masks_mix():
    y, masks = images_and_masks("mcg", "/box")
    soft = masks * 0.5
    for name in ("repaint", "score_sde", "mcg"):
        filled = fill(name, y, soft, own_noise(y)).images
        assert np.isfinite(filled).all()


def test_respacing():
    times = file("repaint_times")
    for steps in (250, 100, 50, 25, 20, 10):
        found = respaced_times(SCHEDULE, steps)[:-1] - 1
        np.testing.assert_array_equal(np.sort(found), times[f"respacing_{steps}"])
    assert strided_times(SCHEDULE, 20)[0] - 1 == 950
    for make in (respaced_times, strided_times):
        for steps in (0, 1001):
            with pytest.raises(UserError, match=f"steps is {steps}; it must lie in 1"):
                make(SCHEDULE, steps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: repaint.RePaint(jump_length=0), "jump_length is 0"),
        (lambda: repaint.RePaint(variance="learnt"), "nearest is 'learned'"),
        (lambda: score_sde.ScoreSDE(paste_level="T"), "paste_level is 'T'"),
        (lambda: score_sde.ScoreSDE(redraws=0), "redraws is 0"),
        (lambda: mcg.MCG(norm="images"), "nearest is 'image'"),
        (lambda: ddrm.DDRM(eta=1.5), "eta is 1.5"),
        (lambda: ddrm.DDRM(sigma_0=-1.0), "sigma_0 is -1.0"),
        (lambda: ddnm.DDNM(sigma_y=-1.0), "sigma_y is -1.0"),
        (lambda: ddnm.DDNM(travel_repeat=0), "travel_repeat is 0"),
        (lambda: ddnm.DDNM(eta=-0.1), "eta is -0.1"),
        (lambda: deqir.DeqIR(solver="picard"), "solver is 'picard'"),
        (lambda: deqir.DeqIR(max_passes=1), "max_passes is 1"),
        (lambda: deqir.DeqIR(eta=2.0), "eta is 2.0"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_evaluations_are_counted_as_they_are_made():
    y, masks = images_and_masks("mcg", "/box")
    calls = []

    def counting(x, step):
        jax.debug.callback(lambda: calls.append(1))
        return denoiser("analytic")(x, step)

    settings = repaint.RePaint(steps=20, jump_length=3, jump_samples=2)
    filled = quick_jit(
        lambda y: repaint.fill(counting, SCHEDULE, settings, y, masks, own_noise(y))
    )(y)
    jax.effects_barrier()
    # T + (r - 1) j ceil((T - j) / j)
    assert set(np.array(filled.forward)) == {20 + 3 * 6} == {len(calls)}
