"""rad-jax preflight: finds what a run would stumble over, and leaves nothing."""

import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.errors import UserError
from rad_jax.runtime.sharding import make_mesh
from rad_jax.train import preflight
from tests.conftest import DIGITS, ROOT

LINES = (
    "devices",
    "mesh",
    "memory",
    "sum over all devices",
    "matrix product, float32",
    "matrix product, bfloat16",
    "data",
    "checkpoint",
    "disk",
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(preflight, "DATA_SECONDS", 0.1)
    monkeypatch.setattr(preflight, "CHECKPOINT_BYTES", 2**20)
    monkeypatch.setattr(preflight, "SECONDS_TO_APPEAR", 0.0)


@pytest.fixture
def flags(tiny):
    batch_size = 4 * jax.device_count()
    return ["--config", DIGITS, *tiny(f"train.batch_size={batch_size}")]


def test_everything_is_checked_and_nothing_left(rad, flags, tmp_path):
    workdir = tmp_path / "runs" / "new"
    code, out, err = rad("preflight", *flags, "--workdir", workdir)
    assert (code, err) == (0, []), err
    assert tuple(line.partition(":")[0] for line in out.splitlines()) == LINES
    assert not list(tmp_path.iterdir())


def test_a_workdir_that_is_there_stays_as_it_is(rad, tmp_path):
    (tmp_path / "mine").touch()
    code, out, _ = rad("preflight", "--workdir", tmp_path)
    names = [line.partition(":")[0] for line in out.splitlines()]
    assert (code, set(LINES) - set(names)) == (0, {"memory", "data"})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def fails(rad, *arguments):
    """The last thing that was right, and the line that says what is wrong."""
    code, out, err = rad("preflight", *arguments)
    assert code == 2 and len(err) == 1, (code, err)
    return out.splitlines()[-1].partition(":")[0], err[0]


def test_a_wrong_sum_is_found(rad, monkeypatch):
    monkeypatch.setattr(jax.lax, "psum", lambda x, axes: x + 1)
    last, error = fails(rad)
    assert last == "mesh" and "sum over all devices is wrong" in error


def test_a_wrong_product_is_found(rad, monkeypatch):
    monkeypatch.setattr(jax.lax, "fori_loop", lambda first, last, body, x: 1.1 * x)
    last, error = fails(rad)
    assert last == "sum over all devices" and "product is wrong on" in error


def test_missing_data_are_named(rad, flags, tmp_path):
    last, error = fails(rad, *flags, f"--config.data.data_dir={tmp_path}")
    assert last == "matrix product, bfloat16" and str(tmp_path) in error


def test_a_workdir_that_cannot_be_written_is_named(rad, tmp_path):
    (tmp_path / "file").touch()
    _, error = fails(rad, "--workdir", tmp_path / "file" / "run")
    assert f"{tmp_path}/file/run: cannot be written (Not a directory)" in error


def test_a_checkpoint_that_comes_back_changed_is_found(rad, monkeypatch, tmp_path):
    trees = Checkpoints.trees

    def changed(self, step, like):
        read = trees(self, step, like)["params"]
        return {"params": read | {"divided": read["divided"].at[0, 0].add(1)}}

    monkeypatch.setattr(Checkpoints, "trees", changed)
    _, error = fails(rad, "--workdir", tmp_path)
    assert "is not what is read" in error
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_host_does_not_see_is_named(tmp_path):
    with pytest.raises(UserError, match="process 0 does not see what"):
        preflight.checkpoint(make_mesh(), tmp_path / "preflight-1")


def test_a_disk_that_the_run_would_fill_is_refused(tmp_path):
    with pytest.raises(UserError, match="are free, and the run needs"):
        preflight.disk(tmp_path, 1000 * 2**40)
    assert preflight.disk(tmp_path, 1).endswith(" B")


def test_processes_with_other_devices_are_named(monkeypatch):
    def device(process, kind):
        return types.SimpleNamespace(
            process_index=process, platform="gpu", device_kind=kind
        )

    found = [device(0, "H100"), device(0, "H100"), device(1, "H100")]
    monkeypatch.setattr(jax, "devices", lambda: found)
    with pytest.raises(UserError, match="process 0 has 2 of H100; process 1 has 1 of"):
        preflight.devices()


@pytest.mark.slow
def test_several_processes_check_together(tmp_path):
    launch = [sys.executable, ROOT / "launch" / "local" / "launch.py", "--devices", "2"]
    command = [Path(sys.executable).with_name("rad-jax"), "preflight"]
    result = subprocess.run(
        [*launch, "--", *command, "--workdir", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if "[Gloo]" not in line]
    assert lines[0].startswith("[0] devices: 4, 2 in each of 2 processes: cpu")
    assert lines[2].startswith("[0] sum over all devices: right, 4")
    assert all(line.startswith("[0] ") for line in lines) and len(lines) == 7
    assert not list(tmp_path.iterdir())
