"""DeqIR: its map and its serial form in float32, Anderson's search in float64.

The least squares of the search have condition numbers up to 1e8: float32 runs of the
official program differ from float64 ones by up to 1e-2 (golden README).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.baselines import deqir
from rad_jax.errors import UserError
from tests.baselines.golden_runs import (
    CASES,
    SCHEDULE,
    denoiser,
    images_and_masks,
    of_case,
    own_noise,
)
from tests.models.adm_files import quick_jit

FILES = ("deqir_t10", "deqir_t10_variants", "deqir_t25")
RUNS = [(name, case) for name in FILES for case in CASES[f"{name}.npz"]]


def fill(name, case, solver, dtype):
    about, expected = CASES[f"{name}.npz"][case], of_case(name, case)
    settings = deqir.DeqIR(
        steps=about["T"],
        solver=solver,
        max_passes=about["max_iter"],
        memory=about["m"],
        noise_weight=about["nw"],
        eta=about["etw"],
    )
    at = slice(about["image"], about["image"] + 1)
    y, masks = (x[at] for x in images_and_masks(name, case, dtype))
    draws = jnp.asarray(np.stack([expected["x_T"], expected["noise"]]), dtype)
    filled = quick_jit(
        lambda y, masks: deqir.fill(
            denoiser(about["net"]), SCHEDULE, settings, y, masks, lambda i: draws[i]
        )
    )(y, masks)
    return filled, about, expected


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_serial_is_the_fixed_point(name, case):
    filled, about, expected = fill(name, case, "serial", np.float32)
    fixed_point = expected["fixed_point_f64"]
    assert np.abs(filled.images[0] - fixed_point).max() < 1e-5
    assert filled.forward == about["T"] and filled.backward == 0
    if about["net"] == "analytic":
        with jax.enable_x64(True):
            filled, *_ = fill(name, case, "serial", np.float64)
            assert np.abs(np.array(filled.images[0]) - fixed_point).max() < 1e-8


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_anderson_is_the_official_search(name, case):
    with jax.enable_x64(True):
        filled, about, expected = fill(name, case, "anderson", np.float64)
        # 3e-8 at T = 30: its least squares are the worst conditioned.
        tolerance = 1e-7 if about["net"] == "analytic" else 1e-4
        apart = np.abs(np.array(filled.images[0]) - expected["final_f64"]).max()
        assert apart < tolerance
        assert filled.forward == about["passes_f64"] * about["T"]


def test_anderson_in_float32_is_as_near_as_the_official_program():
    filled, _, expected = fill(*RUNS[0], "anderson", np.float32)
    assert np.abs(filled.images[0] - expected["final"]).max() < 5e-5


def test_images_are_solved_apart():
    """One takes fewer passes than the other, and neither knows of it."""
    y, masks = images_and_masks("deqir_t10", "t10/analytic/box")
    settings = dataclasses.replace(deqir.PRESETS["published"], steps=10)
    noise = own_noise(y)

    @quick_jit
    def run(scale):
        # Of nothing but zeros the network predicts zeros: solved at once.
        factors = jnp.stack([jnp.ones(()), scale])[:, None, None, None]
        return deqir.fill(
            denoiser("analytic"),
            SCHEDULE,
            settings,
            factors * y,
            masks,
            lambda number: factors * noise(number),
        )

    both, easy, long = (run(jnp.float32(scale)) for scale in (1.0, 0.0, 0.05))
    assert easy.forward[1] == 30 < easy.forward[0] == both.forward[0]
    np.testing.assert_array_equal(easy.images[0], both.images[0])
    # The other goes on where the first one is solved.
    assert long.forward[1] > long.forward[0] == both.forward[0]
    np.testing.assert_array_equal(long.images[0], both.images[0])


@pytest.mark.parametrize(("steps", "made"), [(300, 333), (501, 999)])
def test_steps_that_its_stride_does_not_make(steps, made):
    with pytest.raises(UserError, match=rf"cannot take {steps} of 1000.*use {made}"):
        deqir.chain_times(SCHEDULE, steps)
    assert len(deqir.chain_times(SCHEDULE, 333)) == 334
    assert deqir.chain_times(SCHEDULE, 30)[0] == 958
