import io
import zipfile

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.metrics.frechet import Statistics, moments, statistics
from rad_jax.metrics.reference import read_reference, write_reference

FEATURES = np.random.default_rng(0).standard_normal((50, 16)) + 3
FOUND = statistics(moments(FEATURES))
MEAN, COVARIANCE = FOUND.mean, FOUND.covariance


def read(path):
    return read_reference(path, network="net", dimension=16)


def error_of(path):
    with pytest.raises(UserError) as error:
        read(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "reference.npz"
    write_reference(path, FOUND, network="net")
    found = read(path)
    np.testing.assert_array_equal(found.mean, MEAN)
    np.testing.assert_allclose(found.covariance, COVARIANCE, rtol=1e-12)
    assert found.count == 50
    write_reference(path, Statistics(MEAN, COVARIANCE, None), network="net")
    assert read(path).count is None
    assert [x.name for x in path.parent.iterdir()] == ["reference.npz"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_files_of_pytorch_fid(tmp_path, dtype):
    path = tmp_path / "stats.npz"
    covariance = COVARIANCE.astype(dtype)
    covariance[0, 1] *= 1 + 1e-6  # the last digit of float32
    others = {"mu_s": np.zeros(5), "labels": np.array([{}], object)}
    np.savez_compressed(path, mu=MEAN.astype(dtype), sigma=covariance, **others)
    found = read(path)
    assert found.count is None and found.mean.dtype == np.float64
    np.testing.assert_allclose(found.covariance, COVARIANCE, rtol=1e-5)
    np.testing.assert_array_equal(found.covariance, found.covariance.T)


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    "entries, error",
    [
        ({"network": np.array("vgg")}, "is of the network vgg, not net"),
        ({"network": np.array("a\nb")}, r"is of the network a\nb, not net"),
        ({"network": np.array(["net"])}, "is of the network ['net'], not net"),
        ({"network": np.zeros(3)}, "is of the network [0. 0. 0.], not net"),
        ({"mu": MEAN[:8]}, "mu is float64 of shape (8,), not float of (16,); it is of"),
        ({"sigma": COVARIANCE[:8, :8]}, "sigma is float64 of shape (8, 8), not float"),
        ({"sigma": np.zeros((64, 64))}, "sigma is too large for 16 features; it is of"),
        ({"mu": np.arange(16)}, "mu is int64 of shape (16,), not float of (16,)"),
        (
            {"mu": changed(MEAN, 3, np.nan)},
            "mu is not finite; make the statistics again",
        ),
        ({"sigma": changed(COVARIANCE, 3, np.inf)}, "sigma is not finite; make the"),
        ({"sigma": changed(COVARIANCE, (3, 4), 9)}, "sigma is not a covariance; make"),
        ({"sigma": changed(COVARIANCE, (3, 3), -1)}, "sigma is not a covariance; make"),
        ({"count": np.array(1)}, "count is no number of images; make the"),
        ({"count": np.array(2.5)}, "count is no number of images; make the"),
        ({"count": np.array([3])}, "count is no number of images; make the"),
        (
            {"mu": None},
            "holds no mu and sigma; give statistics as pytorch-fid makes them",
        ),
        ({"sigma": None}, "holds no mu and sigma; give"),
        (
            {"mu": np.array([None] * 16)},
            "cannot be read as an .npz file (damaged); make",
        ),
    ],
)
def test_statistics_that_do_not_fit(tmp_path, entries, error):
    path = tmp_path / "stats.npz"
    entries = {"mu": MEAN, "sigma": COVARIANCE} | entries
    np.savez(path, **{key: x for key, x in entries.items() if x is not None})
    assert error_of(path).startswith(error)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "stats.npz"
    assert error_of(path).startswith("cannot be read as an .npz file (No such file")
    path.write_bytes(b"not a zip archive")
    assert error_of(path) == (
        "cannot be read as an .npz file (damaged); make the statistics again"
    )
    np.savez_compressed(path, mu=MEAN, sigma=COVARIANCE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "(damaged)" in error_of(path)
    middle = whole.index(b"sigma.npy") + 200
    path.write_bytes(whole[:middle] + bytes(50) + whole[middle + 50 :])
    assert "(damaged)" in error_of(path)


def test_a_size_that_is_only_claimed(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (2**45,)}
    )
    path = tmp_path / "stats.npz"
    np.savez(path, sigma=COVARIANCE)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mu.npy", header.getvalue() + bytes(128))
    assert "(damaged)" in error_of(path)


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_reference(tmp_path / "file" / "stats.npz", FOUND)
