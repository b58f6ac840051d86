import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.metrics import bootstrap
from rad_jax.metrics.bootstrap import mean_interval


def test_interval_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(3, 2, 1000)
    mean, low, high = mean_interval(values, seed=0)
    half = 1.96 * values.std() / np.sqrt(1000)
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert low == pytest.approx(mean - half, abs=0.1 * half)
    assert high == pytest.approx(mean + half, abs=0.1 * half)


def test_interval_covers_the_mean_as_often_as_it_says():
    values = np.random.default_rng(1).exponential(1, (120, 100))
    ends = [mean_interval(row, seed=0) for row in values]
    covered = np.mean([low <= 1 <= high for _, low, high in ends])
    assert 0.87 <= covered <= 0.99  # 95%, give or take three deviations


def test_interval_is_that_of_its_seed_however_it_is_computed(monkeypatch):
    values = np.random.default_rng(2).random(101)
    found = mean_interval(values, seed=5)
    assert found == mean_interval(values, seed=5) != mean_interval(values, seed=6)
    monkeypatch.setattr(bootstrap, "BLOCK", 1000)
    assert mean_interval(values, seed=5) == pytest.approx(found, rel=1e-12)


def test_intervals_of_equal_values_and_of_one():
    assert mean_interval(np.full(7, 0.5), seed=0) == (0.5, 0.5, 0.5)
    assert mean_interval(np.array([2.0]), seed=0) == (2, 2, 2)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_intervals_need_finite_values(values):
    with pytest.raises(UserError, match=f"these {len(values)} are not$"):
        mean_interval(np.array(values, float), seed=0)
