import functools
from unittest import mock

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.metrics.frechet import (
    Statistics,
    frechet_distance,
    merge,
    moments,
    of_features,
    sample_warning,
    statistics,
)
from tests.metrics.metric_files import GOLDEN


def of(features):
    return statistics(moments(features))


def test_distance_is_the_reference_programs():
    x, y = of(GOLDEN["fid_x"]), of(GOLDEN["fid_y"])
    assert frechet_distance(x, y) == pytest.approx(float(GOLDEN["fid"]), rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(float(GOLDEN["fid"]), rel=1e-6)


@pytest.mark.parametrize("count", [2, 30, 200])
def test_distance_of_a_set_to_itself_is_zero(count):
    """Of full rank or not, with variances that differ by many powers of ten."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((count, 64)) * np.logspace(2, -4, 64) + 5
    assert frechet_distance(of(features), of(features)) <= 1e-6
    shuffled = moments(features[::-1])
    assert frechet_distance(of(features), statistics(shuffled)) <= 1e-6


def test_distance_where_covariances_commute_and_lack_rank():
    """|m|^2 + sum (sqrt a - sqrt b)^2, in a basis that is not that of the axes."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    a, b = rng.uniform(0, 4, (2, 60)) * (rng.random((2, 60)) < 0.4)
    x = Statistics(np.zeros(60), basis * a @ basis.T, None)
    y = Statistics(np.full(60, 0.1), basis * b @ basis.T, None)
    expected = 0.6 + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [2, 24, 25, 100])
def test_features_at_hand_give_the_same(count):
    """No more than numbers, they need no eigenvectors; those of others are kept."""
    other = of(GOLDEN["fid_x"][:, :1] + np.arange(24.0))
    expected = frechet_distance(of(FEATURES[:count]), other)
    with mock.patch("numpy.linalg.eigh", wraps=np.linalg.eigh) as eigh:
        found = of_features(FEATURES[:count])
        assert frechet_distance(found, other) == pytest.approx(expected, rel=1e-9)
        assert frechet_distance(found, found) <= 1e-9
    assert eigh.call_count == (1 if count > 24 else 0)
    np.testing.assert_array_equal(found.covariance, of(FEATURES[:count]).covariance)


def test_distance_to_a_set_that_does_not_vary():
    features = np.random.default_rng(0).standard_normal((50, 8))
    one = np.ones((2, 8))
    found = frechet_distance(of(features), of(one))
    expected = (
        np.square(features.mean(axis=0) - 1).sum() + features.var(0, ddof=1).sum()
    )
    assert found == pytest.approx(expected, rel=1e-9)


# float32, as networks give them: large means, small variances.
NORMAL = np.random.default_rng(1).standard_normal((500, 24))
FEATURES = (1000 + 0.1 * NORMAL).astype(np.float32)


@pytest.mark.parametrize("sizes", [[1] * 500, [8] * 62 + [4], [0, 499, 1], [250, 250]])
@pytest.mark.parametrize("last", [False, True])
def test_moments_do_not_depend_on_batches(sizes, last):
    batches = [moments(x) for x in np.split(FEATURES, np.cumsum(sizes)[:-1])]
    found = statistics(functools.reduce(merge, batches[::-1] if last else batches))
    exact = FEATURES.astype(np.longdouble)
    mean = exact.mean(axis=0)
    covariance = (exact - mean).T @ (exact - mean) / 499
    assert found.count == 500
    np.testing.assert_allclose(found.mean, np.float64(mean), rtol=1e-12)
    scale = np.abs(covariance).max()
    assert np.abs(found.covariance - covariance).max() < 1e-10 * scale
    other = of(GOLDEN["fid_x"][:, :1] + np.arange(24.0))
    whole = frechet_distance(of(FEATURES), other)
    assert frechet_distance(found, other) == pytest.approx(whole, rel=1e-9)


def test_moments_of_nothing_add_nothing():
    empty, some = moments(FEATURES[:0]), moments(FEATURES[:3])
    assert merge(empty, empty).count == 0
    for merged in merge(empty, some), merge(some, empty):
        assert merged.count == 3
        np.testing.assert_array_equal(merged.mean, some.mean)
        np.testing.assert_array_equal(merged.scatter, some.scatter)


@pytest.mark.parametrize("count", [0, 1])
def test_a_covariance_needs_two(count):
    with pytest.raises(
        UserError, match=f"2 images or more, not {count}; evaluate more"
    ):
        of(FEATURES[:count])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_must_be_finite(value):
    features = FEATURES.copy()
    features[3, 4] = value
    with pytest.raises(UserError, match=r"not finite; look for NaN in the images"):
        moments(features)


def test_features_of_two_networks_have_no_distance():
    with pytest.raises(UserError, match="features of 24 and of 16 numbers have no"):
        frechet_distance(of(FEATURES), of(GOLDEN["fid_x"]))


def test_few_samples_are_told():
    warning = sample_warning(1000)
    assert warning is not None and "\n" not in warning
    assert warning.startswith(
        "FID of 1000 images: their covariance has rank 999 at most"
    )
    assert sample_warning(2048) is not None  # of rank 2047
    assert sample_warning(2049) is None
    assert sample_warning(17, dimension=16) is None
