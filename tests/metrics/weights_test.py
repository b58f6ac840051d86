import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.metrics import weights
from rad_jax.metrics.weights import FILES, metrics_folder, read_arrays, to_params
from rad_jax.weight_files.name_table import SAME, Entry
from rad_jax.weight_files.write import write_torch
from tests.metrics.metric_files import publish


@pytest.fixture
def published(tmp_path):
    return publish(tmp_path, {"a": np.arange(3, dtype=np.float32)})


def error_of(*arguments):
    with pytest.raises(UserError) as error:
        read_arrays(*arguments)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_published_files():
    assert set(FILES) == {"alex", "alex_heads", "vgg", "vgg_heads", "inception"}
    for kind, file in FILES.items():
        assert file.url.endswith(f"/{file.name}")
        if kind.endswith("_heads"):
            assert len(file.sha256) == 64
        else:  # as their publishers have it
            assert file.name.endswith(f"-{file.sha256}.pth") and len(file.sha256) == 8


def test_where_files_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.delenv("RAD_JAX_METRICS", raising=False)
    assert metrics_folder() == Path("/xdg/rad_jax/metrics")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert metrics_folder() == tmp_path / ".cache" / "rad_jax" / "metrics"
    monkeypatch.setenv("RAD_JAX_METRICS", "~/weights")
    assert metrics_folder() == tmp_path / "weights"
    assert metrics_folder(Path("given")) == Path("given")


def test_without_a_home_folder(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RAD_JAX_METRICS", raising=False)
    monkeypatch.setattr(weights, "cache_home", homeless)
    with pytest.raises(UserError, match=r"no home folder; name .* in RAD_JAX_METRICS$"):
        metrics_folder()


def test_the_published_file_is_read(published, tmp_path):
    path, arrays = read_arrays(published, tmp_path)
    assert path == tmp_path / published.name
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    read_arrays(dataclasses.replace(published, sha256=whole), tmp_path)


def test_a_missing_file(published, tmp_path):
    text = error_of(published, tmp_path / "elsewhere")
    assert text == (
        f"{tmp_path}/elsewhere/{published.name}: not found; get it from "
        f"{published.url} (its sha256 begins with {published.sha256}) and put it "
        "there, or name its folder in RAD_JAX_METRICS"
    )


def test_another_file_under_its_name(published, tmp_path):
    path = tmp_path / published.name
    path.write_bytes(path.read_bytes() + b"\0")
    text = error_of(published, tmp_path)
    assert text.startswith(
        f"{path}: is not the published file: its sha256 begins with "
    )
    assert text.endswith(f", not {published.sha256}; get it from {published.url}")


def test_a_file_that_cannot_be_read(published, tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    text = error_of(published, tmp_path)
    assert text == f"{tmp_path / published.name}: cannot be read (Permission denied)"


def test_a_published_file_without_weights(tmp_path):
    page = tmp_path / "page.pth"
    page.write_text("<!DOCTYPE html>")
    checksum = hashlib.sha256(page.read_bytes()).hexdigest()
    text = error_of(weights.WeightFile("page.pth", checksum, "?"), tmp_path)
    assert "is a web page" in text


ENTRIES = [Entry((f"{name}.weight",), (name,), SAME) for name in "abc"]
ABSTRACT = {name: np.zeros(3, np.float32) for name in "abc"}
WHOLE = {f"{name}.weight": np.full(3, i, np.float64) for i, name in enumerate("abc")}


def test_weights_become_parameters():
    state = WHOLE | {"count": np.zeros(())}
    params = to_params(Path("f.pth"), state, ENTRIES, ABSTRACT, "count".__eq__)
    assert set(params) == {"a", "b", "c"}
    np.testing.assert_array_equal(params["c"], [2, 2, 2])
    assert params["c"].dtype == np.float32


@pytest.mark.parametrize(
    "change, error",
    [
        ({"a.weight": None}, "lacks a.weight"),
        ({"a.weight": None, "b.weight": None}, "lacks a.weight and 1 more"),
        ({"x": np.zeros(1)}, "has the unknown x"),
        ({"b.weight": np.zeros((3, 1))}, "has another shape of b.weight"),
        (
            {"b.weight": None, "x": np.zeros(1), "c.weight": np.zeros(4)},
            "lacks b.weight, has the unknown x, has another shape of c.weight",
        ),
    ],
)
def test_weights_of_another_network(tmp_path, change, error):
    path = tmp_path / "f.pth"
    state = {key: x for key, x in (WHOLE | change).items() if x is not None}
    write_torch(path, state)
    state = weights.read_state_dict(path)
    with pytest.raises(UserError) as found:
        to_params(path, state, ENTRIES, ABSTRACT)
    assert str(found.value) == f"{path}: is of another network: it {error}"
