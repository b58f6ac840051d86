"""guided-diffusion's respacing: the timesteps that it is documented to take."""

import numpy as np
import pytest

from rad_jax.diffusion import sampling
from rad_jax.diffusion.respacing import respaced_grid, space_timesteps
from rad_jax.diffusion.schedule import make_schedule
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError


@pytest.mark.parametrize(
    "text, first, last",
    [
        ("250", [0, 4, 8, 12], [995, 999]),
        ("100", list(range(0, 60, 10)), [989, 999]),
        ("50", [0, 20, 41], [979, 999]),
        ("ddim25", [0, 40, 80], [920, 960]),
        ("ddim50", [0, 20, 40], [960, 980]),
        ("ddim1000", [0, 1, 2], [998, 999]),
        ("1000", [0, 1, 2], [998, 999]),
        ("2", [0], [999]),
        ("1", [0], [0]),
    ],
)
def test_known_chains(text, first, last):
    found = space_timesteps(1000, text)
    assert len(found) == int(text.removeprefix("ddim"))
    assert found[: len(first)].tolist() == first
    assert found[-len(last) :].tolist() == last


def test_strides_that_change_within_a_chain():
    """Of 100: tens up to 50, then 61: strides of 10.09 add up to a whole one."""
    found = space_timesteps(1000, "100")
    assert found[:6].tolist() == [0, 10, 20, 30, 40, 50]
    assert 61 in found and 60 not in found


def test_halves_are_rounded_to_even():
    """The fifth of 25 is 166.5; away from zero it would be 167."""
    found = space_timesteps(1000, "25")
    assert found[4] == 166
    assert found[[0, -1]].tolist() == [0, 999]
    # 499.5 and 832.5 are halves as well.
    assert found[[12, 20]].tolist() == [500, 832]


@pytest.mark.parametrize(
    "num_steps, text, expected",
    [
        # Sections of 4, 3 and 3; one timestep is the section's first.
        (10, "2,3,1", [0, 3, 4, 5, 6, 7]),
        (10, "1,1,1", [0, 4, 7]),
        (10, "4,3,3", list(range(10))),
        (11, "2,2,2", [0, 3, 4, 7, 8, 10]),
        (10, " 2, 2 ", [0, 4, 5, 9]),
        (10, "ddim4", [0, 3, 6, 9]),
        (10, "ddim5", [0, 2, 4, 6, 8]),
    ],
)
def test_sections_and_strides_of_short_chains(num_steps, text, expected):
    assert space_timesteps(num_steps, text).tolist() == expected


@pytest.mark.parametrize("num_steps", [2, 7, 100, 1000, 4000])
def test_one_section_has_both_ends_and_as_many_as_asked(num_steps):
    for count in {2, num_steps // 2 + 1, max(2, num_steps - 1), num_steps}:
        found = space_timesteps(num_steps, str(count))
        assert len(found) == count
        assert found[[0, -1]].tolist() == [0, num_steps - 1]
        assert np.all(np.diff(found) > 0)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "respacing '': '' is not a count; use e.g. '250', '10,20,30' or 'ddim25'"),
        ("many", "'many' is not a count"),
        ("0", "'0' is not a count"),
        ("-5", "'-5' is not a count"),
        ("2.5", "'2.5' is not a count"),
        ("10,,10", "respacing '10,,10': '' is not a count"),
        ("10,0", "'0' is not a count"),
        ("ddim", "respacing 'ddim': '' is not a count"),
        ("ddim10,10", "'10,10' is not a count"),
        ("٣", "'٣' is not a count"),
        ("1001", "respacing '1001': 1001 timesteps do not fit into a section of 1000"),
        ("1,501", "501 timesteps do not fit into a section of 500"),
        ("ddim999", "no whole stride takes 999 of 1000 timesteps; use another"),
        ("ddim1001", "no whole stride takes 1001 of 1000 timesteps"),
    ],
)
def test_what_makes_no_chain_is_explained(text, message):
    with pytest.raises(UserError) as error:
        space_timesteps(1000, text)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["25", "ddim25", "3,2,1"])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_the_network_is_told_the_timesteps_of_the_chain(text, kind):
    """Largest first, as exact integers; the last step ends at the clean image."""
    schedule = make_schedule(ScheduleConfig(kind=kind))
    grid = respaced_grid(1000, text)
    stack = sampling.grid_steps(schedule, grid)
    told = stack.timesteps[:, 1]
    np.testing.assert_array_equal(told, space_timesteps(1000, text)[::-1])
    assert grid.start == grid.times[0] == told[0] + 1
    assert grid.times[-1] == 0 and np.all(stack.s.hole[-1] == 0)
