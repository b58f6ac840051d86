"""What Orbax cannot write and read back is refused before anything is written."""

import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.checkpoints.orbax_path import orbax_path
from rad_jax.errors import UserError


def write(folder):
    with Checkpoints(folder, 2) as checkpoints:
        checkpoints.save(1, {"params": {"a": jnp.arange(3.0)}}, {})


def read(folder):
    like = {"params": {"a": jnp.zeros(3)}}
    with Checkpoints(folder) as checkpoints:
        trees = checkpoints.latest(lambda step: checkpoints.trees(step, like))
    assert trees is not None
    np.testing.assert_array_equal(trees["params"]["a"], np.arange(3.0))


@pytest.mark.parametrize(
    "name", ["a b", "é", "100%", "#", "a\nb", "~", "{0}", "x:", "x]", "u/../w", "//w"]
)
def test_odd_names_hold_a_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "u").mkdir()
    path = Path(name.lstrip("/"))
    write(path)
    read(path)


BAD = {
    "a[1]": r"\[ in it",
    "a*": r"\* in it",
    "a?": r"\? in it",
    "a\\b": r"\\ in it",
    "gs:/b": "gs: in it",
    os.fsdecode(b"\xff"): "is no UTF-8",
}


@pytest.mark.parametrize("name", BAD)
def test_what_could_not_be_read_back_is_not_begun(name, tmp_path):
    with pytest.raises(UserError, match=BAD[name]):
        write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_copy_under_a_name_that_is_a_pattern_is_read(tmp_path):
    write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "a[1]")
    read(tmp_path / "a[1]")


def test_relative_paths_are_of_the_current_folder():
    assert orbax_path(Path("runs")) == Path.cwd() / "runs"
