"""Means between two lines of the logs."""

import jax
import numpy as np
import pytest

from rad_jax.diffusion.schedule import make_schedule, steps
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.train.totals import BUCKETS, Totals, bucket, means, no_totals


@pytest.mark.parametrize(
    "time, name",
    [
        (1, "loss_hole_1"),
        (250, "loss_hole_1"),  # k = 249
        (251, "loss_hole_2"),
        (501, "loss_hole_3"),
        (1000, "loss_hole_4"),
        (1001, "loss_known_1"),
        (2000, "loss_known_4"),
    ],
)
def test_bucket_is_that_of_the_pixels_that_get_noisy(time, name):
    schedule = make_schedule(ScheduleConfig())
    times = np.array([time])
    step = jax.tree.map(np.asarray, steps(schedule, times, times - 1))
    [index] = np.asarray(bucket(step, schedule))
    assert BUCKETS[index] == name


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_buckets_are_parts_of_the_bases_own_timesteps(scale):
    config = ScheduleConfig("cosine", 4000, 4000, base_steps=4000, timestep_scale=scale)
    times = np.array([1000, 1001, 4000, 8000])
    schedule = make_schedule(config)
    step = jax.tree.map(np.asarray, steps(schedule, times, times - 1))
    found = [BUCKETS[index] for index in np.asarray(bucket(step, schedule))]
    assert found == ["loss_hole_1", "loss_hole_2", "loss_hole_4", "loss_known_4"]


def test_means_leave_out_what_was_not_seen():
    totals = jax.tree.map(np.asarray, no_totals())
    assert means(totals) == {"skipped": 0}
    sums = dict(totals.sums) | {
        "loss": np.float32(3),
        "loss_hole_1": np.float32(1),
        "loss_hole_4": np.float32(2),
        "skipped": np.float32(2),
    }
    counts = dict(totals.counts) | {
        "loss": np.float32(6),
        "loss_hole_1": np.float32(4),
        "loss_hole_4": np.float32(2),
        "skipped": np.float32(5),
    }
    assert means(Totals(sums, counts)) == {
        "loss": 0.5,
        "loss_hole_1": 0.25,
        "loss_hole_4": 1.0,
        "loss_hole": 0.5,  # of all six images, not of the buckets
        "skipped": 2.0,  # a number of steps
    }
