import itertools
from unittest import mock

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.metrics.kid import kid, squared_mmd


def features(count, shift=0.0, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 5)) + shift


def kernel(x, y):
    return (x @ y / 5 + 1) ** 3


def test_squared_mmd_is_its_definition():
    x, y = features(6), features(6, 0.5, 1)
    pairs = list(itertools.permutations(range(6), 2))
    expected = (
        np.mean([kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs])
        - 2 * np.mean([kernel(a, b) for a in x for b in y])
    )  # fmt: skip
    assert squared_mmd(x, y) == pytest.approx(expected, rel=1e-12)


def test_one_subset_of_all_is_the_whole():
    x, y = features(30), features(30, 0.5, 1)
    with mock.patch("rad_jax.metrics.kid.squared_mmd", wraps=squared_mmd) as computed:
        found = kid(x, y, seed=0, subset_size=30)
        assert computed.call_count == 1
        kid(x, features(31), seed=0, subset_size=30, subsets=3)
        assert computed.call_count == 4
    assert found.mean == pytest.approx(squared_mmd(x, y), rel=1e-9)
    assert found.deviation == 0


def test_unbiased_however_small_the_subsets():
    x, same, other = features(900), features(800, 0, 1), features(900, 0.4, 2)
    near = kid(x, same, seed=0, subset_size=20, subsets=400)
    error = 4 * near.deviation / np.sqrt(400)
    assert abs(near.mean - squared_mmd(x[:800], same)) < error
    far = kid(x, other, seed=0, subset_size=20, subsets=400)
    error = 4 * far.deviation / np.sqrt(400)
    assert abs(far.mean - squared_mmd(x, other)) < error < far.mean / 2


def test_subsets_are_those_of_the_seed():
    x, y = features(50), features(60, 0.5, 1)
    found = kid(x, y, seed=3, subset_size=10, subsets=4)
    assert found == kid(x, y, seed=3, subset_size=10, subsets=4)
    assert found != kid(x, y, seed=4, subset_size=10, subsets=4)
    single = (array.astype(np.float32) for array in (x, y))
    as_float32 = kid(*single, seed=3, subset_size=10, subsets=4)
    assert as_float32.mean == pytest.approx(found.mean, rel=1e-4)


@pytest.mark.parametrize(
    "options, error",
    [
        ({"subset_size": 51}, "subsets of 51 images, and a set has 50; give smaller"),
        ({"subset_size": 1}, "not 100 of 1$"),
        ({"subset_size": 10, "subsets": 0}, "not 0 of 10$"),
    ],
)
def test_subsets_that_cannot_be(options, error):
    for sets in (features(50), features(60)), (features(60), features(50)):
        with pytest.raises(UserError, match=error):
            kid(*sets, seed=0, **options)


def test_features_must_be_finite():
    x = features(20)
    bad = x.copy()
    bad[3, 2] = np.nan
    for sets in (x, bad), (bad, x):
        with pytest.raises(UserError, match="not finite; look for NaN"):
            kid(*sets, seed=0, subset_size=10)
