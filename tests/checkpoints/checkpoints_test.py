"""Checkpoints: written whole or not at all, and what becomes of damaged ones."""

import errno
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.checkpoints.damage import short_reason
from rad_jax.errors import UserError


def tree(step):
    a = {"b": step + jnp.arange(5000.0), "c": jnp.ones((3, 3))}
    return {"a": a, "step": jnp.int32(step)}


def write(workdir, *steps, keep=2):
    with Checkpoints(workdir, keep) as checkpoints:
        for step in steps:
            trees = {"params": tree(step), "ema": (tree(-step), [tree(3)])}
            checkpoints.save(
                step, trees, {"config": {"x": [1, 2]}, "data": {"i": step}}
            )


def reader(checkpoints):
    """Reads all of a checkpoint and checks it."""

    def read(step):
        assert checkpoints.records(step, ["config", "data"]) == {
            "config": {"x": [1, 2]},
            "data": {"i": step},
        }
        like = {"params": tree(0), "ema": (tree(0), [tree(0)])}
        found = checkpoints.trees(step, like)
        expected = {"params": tree(step), "ema": (tree(-step), [tree(3)])}
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        return step

    return read


def latest(workdir):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.latest(reader(checkpoints))


def steps(workdir):
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def largest(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two good checkpoints; do not write there."""
    workdir = tmp_path_factory.mktemp("written")
    write(workdir, 5, 10)
    return workdir


@pytest.fixture
def copied(written, tmp_path):
    workdir = tmp_path / "a run"
    shutil.copytree(written, workdir)
    return workdir


def test_latest_is_read_and_the_last_few_kept(tmp_path):
    write(tmp_path, 1, 2, 3, 4, keep=2)
    assert steps(tmp_path) == ["3", "4"]
    assert latest(tmp_path) == 4


def test_a_step_is_written_once(written, copied):
    before = sorted((p, p.stat().st_mtime_ns) for p in copied.rglob("*"))
    write(copied, 10)
    assert sorted((p, p.stat().st_mtime_ns) for p in copied.rglob("*")) == before


def test_nothing_is_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"no-run: holds no checkpoints; give the work"):
        Checkpoints(tmp_path / "no-run")
    assert not (tmp_path / "no-run").exists()
    with Checkpoints(tmp_path, 2) as checkpoints:
        assert checkpoints.latest(reader(checkpoints)) is None


def damage(folder, kind):
    if kind == "cut short":
        os.truncate(largest(folder), largest(folder).stat().st_size // 2)
    elif kind == "deleted":
        largest(folder).unlink()
    elif kind == "overwritten":
        size = largest(folder).stat().st_size
        largest(folder).write_bytes(np.random.default_rng(0).bytes(size))
    elif kind == "an item less":
        shutil.rmtree(folder / "ema")
    elif kind == "a record less":
        shutil.rmtree(folder / "data")
    else:
        path = {
            "no database": "params/manifest.ocdbt",
            "no description": "ema/_METADATA",
            "bad record": "data/metadata",
        }[kind]
        os.truncate(folder / path, 0)


@pytest.mark.parametrize(
    "kind",
    [
        "cut short",
        "deleted",
        "overwritten",
        "an item less",
        "a record less",
        "no database",
        "no description",
        "bad record",
    ],
)
def test_damaged_checkpoint_is_named_and_the_one_before_used(copied, kind, capfd):
    damage(copied / "checkpoints" / "10", kind)
    assert latest(copied) == 5
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"rad-jax: {copied}/checkpoints/10: damaged, trying the one")
    assert steps(copied) == ["10", "5"]  # reading changes nothing


def test_damaged_checkpoint_is_replaced(copied):
    damage(copied / "checkpoints" / "10", "cut short")
    with Checkpoints(copied, 2) as checkpoints:
        assert checkpoints.latest(reader(checkpoints)) == 5
        for step in (7, 10):
            trees = {"params": tree(step), "ema": (tree(-step), [tree(3)])}
            records = {"config": {"x": [1, 2]}, "data": {"i": step}}
            checkpoints.save(step, trees, records)
            checkpoints.wait()
            assert latest(copied) == step
    assert steps(copied) == ["10", "7"]


def test_all_damaged_is_one_line(copied):
    for step in ("5", "10"):
        damage(copied / "checkpoints" / step, "cut short")
    with pytest.raises(UserError, match="every checkpoint is damaged; restore the"):
        latest(copied)


@pytest.mark.parametrize("item", ["params/_METADATA", "params/manifest.ocdbt", "data"])
def test_what_cannot_be_read_is_not_called_damage(copied, item):
    """Nor passed over: resuming would remove it, and what was trained since."""
    path = copied / "checkpoints" / "10" / item
    for file in path.iterdir() if path.is_dir() else [path]:
        file.unlink()
        file.symlink_to(file.name)  # ELOOP, whoever reads it
    reason = os.strerror(errno.ELOOP)
    match = rf"/10\S*: cannot be read \({reason}\)"
    with Checkpoints(copied, 2) as checkpoints, pytest.raises(UserError, match=match):
        checkpoints.latest(reader(checkpoints))
    assert steps(copied) == ["10", "5"]


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, OSError])
def test_a_mistake_of_ours_is_not_called_damage(written, error):
    with Checkpoints(written) as checkpoints:

        def read(step):
            checkpoints.records(step, ["config"])
            raise error("a bug")

        with pytest.raises(error, match="a bug"):
            checkpoints.latest(read)


def test_another_tree_is_not_called_damage(written):
    with Checkpoints(written) as checkpoints, pytest.raises(ValueError, match="tree"):
        like = {"params": {"other": jnp.ones(2)}}
        checkpoints.latest(lambda step: checkpoints.trees(step, like))


def test_another_kind_of_device_reads_it_too(copied):
    for path in (copied / "checkpoints" / "10").glob("*/_sharding"):
        text = path.read_text()
        assert '"cpu:0' in text.replace("\\", "")
        path.write_text(text.replace("cpu:0", "tpu:3"))
    assert latest(copied) == 10


def test_interrupted_write_is_ignored_and_then_removed(copied):
    """A killed process leaves a folder under another name, as Orbax names it."""
    folder = copied / "checkpoints"
    shutil.copytree(folder / "10", folder / "12.orbax-checkpoint-tmp")
    assert latest(copied) == 10
    assert len(steps(copied)) == 3
    write(copied, 15)
    assert latest(copied) == 15
    assert steps(copied) == ["10", "15"]


def test_killed_write_leaves_the_one_before(tmp_path):
    program = """
import os, pathlib, sys, jax.numpy as jnp
from rad_jax.checkpoints.checkpoints import Checkpoints
with Checkpoints(pathlib.Path(sys.argv[1]), 2) as checkpoints:
    trees = {"params": {"a": jnp.arange(3e6)}}
    checkpoints.save(15, trees, {})
    while not [*pathlib.Path(sys.argv[1]).glob("*/15.*")]:  # a thread makes it
        pass
    os._exit(7)
"""
    write(tmp_path, 10)
    assert run(program, tmp_path).returncode == 7
    assert latest(tmp_path) == 10
    assert [name for name in steps(tmp_path) if name.startswith("15.orbax")]
    write(tmp_path, 15)
    assert steps(tmp_path) == ["10", "15"]


def test_full_disk_is_one_line_and_harms_nothing(tmp_path):
    """A limit on file size fails like a full disk, with EFBIG instead of ENOSPC."""
    program = """
import pathlib, resource, sys, jax
from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.errors import UserError
numbers = jax.random.normal(jax.random.key(0), (3000,))
trees = {"params": {f"a{i}": numbers for i in range(50)}}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    with Checkpoints(pathlib.Path(sys.argv[1]), 2) as checkpoints:
        checkpoints.save(15, trees, {"config": {}})
        {"wait": checkpoints.wait, "exit": lambda: None}[sys.argv[3]]()
except UserError as error:
    print(error)
"""
    write(tmp_path, 10)
    for limit, last in (("0", "wait"), ("20000", "exit")):
        done = run(program, tmp_path, limit, last)
        assert done.stdout == (
            f"{tmp_path}/checkpoints: cannot be written (File too large); free some "
            "space and rerun the same command to resume\n"
        )
        assert done.stderr == ""
        assert latest(tmp_path) == 10
    write(tmp_path, 15)
    assert latest(tmp_path) == 15


@pytest.mark.parametrize(
    "error, reason",
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("OUT_OF_RANGE: x [os_error_code='28'] [y='1']"), os.strerror(28)),
        (ValueError("X: No space [y='{}'] [os_error_code='28']"), os.strerror(28)),
        (ValueError("first line\nsecond"), "first line"),
        (OSError(), "OSError"),
    ],
)
def test_reason_is_short(error, reason):
    assert short_reason(error) == reason


def test_records_are_json(written):
    path = written / "checkpoints" / "10" / "config" / "metadata"
    assert json.loads(path.read_text()) == {"x": [1, 2]}


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
