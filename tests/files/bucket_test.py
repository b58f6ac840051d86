"""Buckets: paths, copies, and whole runs against a stand-in of the cloud."""

import errno
import importlib.util
import os
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.checkpoints.load import load, read_frozen
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_folder
from rad_jax.files.bucket import CHUNK_BYTES, copy_file, copy_files, folder_at
from rad_jax.models.apply import init_params
from rad_jax.models.lora import partition
from rad_jax.train.log_uploader import LogUploader
from rad_jax.train.loop import train
from rad_jax.train.pretrained import load_pretrained, write_base
from rad_jax.train.stop import StopRequest
from tests.train import matrix
from tests.train.processes_test import assert_same_run, finish, quick, started, wait_for

NEVER = StopRequest()


def download(bucket, prefix, folder):
    """What lies in a bucket, as files."""
    for name in bucket.names(prefix):
        path = folder / name.removeprefix(prefix).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.read(name))
    return folder


@pytest.mark.slow
def test_run_in_a_bucket_is_that_of_a_folder(
    bucket, tiny, tiny_experiment, tmp_path, monkeypatch
):
    """Killed, and ended by two processes: arrays and logs are the same."""
    changes = ("num_steps=30", "checkpoint_every=10", "batch_size=8", "log_every=3")
    changes = [f"train.{change}" for change in changes]
    matrix.install(monkeypatch.setattr)
    overrides = tiny(*changes)
    with started(quick(overrides, tmp_path / "straight")) as process:
        finish(process)

    run, cloud = "gs://bucket/runs/a", bucket.environment
    with started(quick(overrides, run), **cloud) as process:
        whole = "runs/a/checkpoints/10/commit_success.txt"
        wait_for(process, lambda: whole in bucket.objects)
        process.kill()
    left = bucket.names("runs/a/checkpoints/")
    with started(quick(overrides, run), processes=2, devices=1, **cloud) as process:
        output = finish(process)
    assert left
    assert "rad-jax: resuming from step " in output
    assert "a bucket has no lock; start no second run there" in output
    assert "in the bucket; a checkpoint is" in output
    ended = download(bucket, "runs/a", tmp_path / "ended")
    assert_same_run(tmp_path / "straight", ended, tiny_experiment(*changes))
    names = {path.name for path in ended.iterdir()}
    assert {"config.json", "metrics.jsonl", "speed.jsonl", "tensorboard"} <= names


@pytest.fixture
def model(tiny_experiment, key):
    """A network nobody trained."""
    config = tiny_experiment().model
    return Model(config, ScheduleConfig(), "eps", init_params(config, key))


def test_model_in_a_bucket_is_read_and_replaced(bucket, model):
    folder = folder_at("gs://bucket/models/m")
    write_model(folder, model, {"run": "first"})
    with pytest.raises(UserError, match="gs://bucket/models/m: exists; choose another"):
        write_model(folder, model, {})
    bucket.objects["models/m/params/left"] = b"", 1
    write_model(folder, model, {"run": "second"}, overwrite=True)
    assert "models/m/params/left" not in bucket.objects
    assert b"second" in bucket.read("models/m/model.json")
    there = load("gs://bucket/models/m")
    jax.tree.map(np.testing.assert_array_equal, model.params, there.params)


def test_base_of_adapters_in_a_bucket(bucket, model, tiny_experiment, tmp_path):
    """What is frozen is what it was, also for processes that did not write it."""
    write_model(tmp_path / "base", model, {})
    changes = ("lora.rank=2", "lora.alpha=2", f"pretrained={tmp_path / 'base'}")
    experiment = tiny_experiment(*changes)
    run = folder_at("gs://bucket/run")
    write_base(experiment, run, load_pretrained(experiment))
    frozen = read_frozen(experiment, run)
    _, expected = partition(experiment.model, experiment.lora, model.params)
    assert jax.tree.leaves(expected)
    jax.tree.map(np.testing.assert_array_equal, frozen, expected)


@pytest.mark.slow
def test_run_with_adapters_in_a_bucket(bucket, lora_experiment, rad, tmp_path):
    """Trained, told and converted by the commands."""
    train(lora_experiment("train.num_steps=2"), folder_at("gs://bucket/l"), NEVER)
    assert "l/base/model.json" in bucket.objects
    code, out, err = rad("info", "gs://bucket/l")
    assert (code, err) == (0, []) and out.startswith("gs://bucket/l: step 2, ")
    arguments = ["--input", "gs://bucket/l", "--output", tmp_path / "model"]
    assert rad("convert", *arguments)[0] == 0
    jax.tree.map(
        np.testing.assert_array_equal,
        load(tmp_path / "model").params,
        load("gs://bucket/l").params,
    )


def test_damaged_and_unfinished_checkpoints(bucket, capsys):
    """The one before is used; the next write removes both."""
    tree = {"a": np.arange(5.0), "b": {"c": np.ones((3, 4))}}
    workdir = folder_at("gs://bucket/run")

    like = jax.tree.map(jax.numpy.asarray, tree)
    with Checkpoints(workdir, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"params": like}, {"config": {}})
            checkpoints.wait()
    assert not bucket.names("run/checkpoints/1/")
    (data, *_) = bucket.names("run/checkpoints/3/params/d/")
    bucket.objects[data] = bucket.read(data)[:5], 99
    bucket.objects["run/checkpoints/4/params/d/x"] = b"half", 100
    with Checkpoints(workdir, keep=2) as checkpoints:
        found = checkpoints.latest(
            lambda step: (step, checkpoints.trees(step, {"params": like}))
        )
        assert found is not None
        step, trees = found
        checkpoints.save(5, {"params": like}, {"config": {}})
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, trees["params"], tree)
    assert "gs://bucket/run/checkpoints/3: damaged, trying" in capsys.readouterr().err
    left = {name.split("/")[2] for name in bucket.names("run/checkpoints/")}
    assert left == {"2", "5"}


def test_outbox_copies_what_is_new(bucket, capsys):
    workdir = folder_at("gs://bucket/run")
    bucket.objects["run/log"] = b"one\n", 1
    with LogUploader(workdir, ["log", "missing"]) as uploader:
        assert (uploader.folder / "log").read_bytes() == b"one\n"
        with (uploader.folder / "log").open("a") as log:
            log.write("two\n")
        (uploader.folder / "deep").mkdir()
        (uploader.folder / "deep" / "file").write_bytes(b"x" * 2**20)
        uploader.publish()
        assert bucket.read("run/log") == b"one\ntwo\n"
        assert bucket.read("run/deep/file") == b"x" * 2**20
        generations = dict(bucket.objects)
        uploader.publish()
        assert bucket.objects == generations
        bucket.forbidden = True
        (uploader.folder / "late").write_bytes(b"late")
        uploader.publish()
        bucket.forbidden = False
        assert "gs://bucket/run: the logs wait here (" in capsys.readouterr().err
    assert bucket.read("run/late") == b"late"
    assert not uploader.folder.exists()


def test_outbox_of_a_folder_is_the_folder(tmp_path):
    (tmp_path / "log").write_text("one\n")
    with LogUploader(tmp_path, ["log"]) as uploader:
        assert uploader.folder == tmp_path
        uploader.publish()
    assert (tmp_path / "log").read_text() == "one\n"


def test_what_lies_at_the_top_is_copied_last(tmp_path, monkeypatch):
    for name in ("model.json", "params/a", "params/d/b"):
        path = tmp_path / "old" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        time.sleep(0.02)
    files = [path for path in (tmp_path / "old").rglob("*") if path.is_file()]
    copy_files(files, tmp_path / "old", tmp_path / "new")
    times = {
        name: (tmp_path / "new" / name).stat().st_mtime_ns
        for name in ("params/d/b", "params/a", "model.json")
    }
    assert sorted(times, key=times.__getitem__) == list(times)
    assert (tmp_path / "new" / "params" / "d" / "b").read_text() == "params/d/b"


def assert_stopped(sent, target, tmp_path, monkeypatch):
    """Ctrl-C amid a copy ends it."""

    def stopped(old, new, length):
        for _ in range(0, sent, length):
            new.write(old.read(length))
        raise KeyboardInterrupt

    (tmp_path / "source").write_bytes(bytes(sent))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("rad_jax.files.bucket.shutil.copyfileobj", stopped)
        copy_file(tmp_path / "source", target)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # gcsfs
@pytest.mark.parametrize("sent", (100, 2 * CHUNK_BYTES))
def test_a_copy_that_is_stopped_leaves_nothing(sent, bucket, tmp_path, monkeypatch):
    assert_stopped(sent, folder_at("gs://bucket/large"), tmp_path, monkeypatch)
    assert bucket.names() == []


def test_folders_stay_what_they_are():
    assert folder_at("runs/a") == Path("runs/a")
    assert folder_at(Path("/runs")) == Path("/runs")


def test_other_addresses_are_refused(rad, tiny):
    overrides = tiny()
    for flag in ("s3://bucket/run", "https://example.com/run"):
        code, _, err = rad("train", "--config", "c.py", "--workdir", flag, *overrides)
        assert code == 2 and err == [
            f"rad-jax train: argument --workdir: {flag}: give a folder, or an address "
            "that begins gs://; see rad-jax train --help"
        ]


def test_without_gcsfs(monkeypatch, rad):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = rad("info", "gs://bucket/run")
    assert code == 2 and "pip install 'rad-jax[gcs]'" in err[0] and len(err) == 1


@pytest.mark.parametrize("why", ("no such bucket", "forbidden"))
def test_bucket_that_is_not_ours(bucket, why, rad, tiny):
    bucket.forbidden = why == "forbidden"
    address = "gs://bucket/run" if bucket.forbidden else "gs://other/run"
    train = ["train", "--config", "configs/digits.py", *tiny("train.num_steps=2")]
    for verb in (train, ["preflight"]):
        code, _, err = rad(*verb, "--workdir", address)
        assert code == 2, err
        assert f"rad-jax: {address}: cannot be reached (" in err[-1]
        assert err[-1].endswith("and that this machine may read and write there")
    code, _, err = rad("info", address)
    assert code == 2 and err[-1].startswith(f"rad-jax: {address}: ")


def test_file_in_a_bucket_is_to_be_copied(bucket, rad, tmp_path):
    bucket.objects["adm.pt"] = b"x", 1
    code, _, err = rad(
        "convert", "--input", "gs://bucket/adm.pt", "--output", tmp_path / "m"
    )
    assert (code, err) == (
        2,
        ["rad-jax: gs://bucket/adm.pt: is a file in a bucket; copy it here first"],
    )


def test_preflight_of_a_bucket(bucket, rad):
    code, out, err = rad("preflight", "--workdir", "gs://bucket/run")
    assert (code, err) == (0, [])
    assert "disk: a bucket  [" in out and "written in " in out
    assert bucket.names() == []


def test_adapters_in_a_bucket_are_to_be_copied(bucket, rad, tmp_path):
    bucket.objects["a/rad_jax.json"] = b"{}", 1
    arguments = ["--input", "gs://bucket/a", "--base", tmp_path]
    code, _, err = rad("convert", *arguments, "--output", tmp_path / "m")
    line = "rad-jax: gs://bucket/a: lies in a bucket; copy the adapters here first"
    assert (code, err) == (2, [line])


def test_what_is_no_checkpoint_stays(bucket):
    bucket.objects["run/checkpoints/notes/a.txt"] = b"mine", 1
    with Checkpoints(folder_at("gs://bucket/run"), keep=1) as checkpoints:
        checkpoints.save(1, {"params": {"a": jax.numpy.ones(2)}}, {"config": {}})
    assert bucket.read("run/checkpoints/notes/a.txt") == b"mine"
    assert "run/checkpoints/1/commit_success.txt" in bucket.objects


def test_folder_for_a_bucket_on_a_full_disk(bucket):
    """The disk is this machine's; what is in the bucket stays."""
    bucket.objects["m/model.json"] = b"old", 1
    folder = folder_at("gs://bucket/m")
    line = r"gs://bucket/m: cannot be written \(No space left"
    with pytest.raises(UserError, match=line), atomic_folder(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert bucket.objects["m/model.json"] == (b"old", 1)
