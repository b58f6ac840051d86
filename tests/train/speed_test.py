"""How fast a run goes."""

import pytest

from rad_jax.train import speed as module
from rad_jax.train.speed import Speed


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_each_lap_is_measured_alone(clock):
    speed = Speed(16, 2e12, 8e13)
    clock[0] += 5
    assert speed.lap(10, 1.0) == pytest.approx(
        {
            "img_per_s": 32,
            "step_seconds": 0.5,
            "input_wait_share": 0.2,
            "mfu": 10 * 2e12 / 5 / 8e13,
        }
    )
    clock[0] += 2
    assert speed.lap(1, 1.5) == pytest.approx(
        {"img_per_s": 8, "step_seconds": 2, "input_wait_share": 0.25, "mfu": 1 / 80}
    )


def test_no_share_of_an_unknown_peak(clock):
    speed = Speed(16, 0.0, 0.0)
    clock[0] += 1
    assert "mfu" not in speed.lap(1, 0.0)
