"""The training loop: resuming, stopping, logs, and folders that do not fit."""

import json
import os
import shutil
import struct
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue] (made at import)
)

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.config.experiment import to_dict
from rad_jax.config.file import load_config
from rad_jax.errors import UserError
from rad_jax.train import loop, start
from rad_jax.train.lock import lock
from rad_jax.train.loop import train
from rad_jax.train.start import items
from rad_jax.train.state import TrainState, make_optimizer
from rad_jax.train.step import Signals
from rad_jax.train.stop import StopRequest
from rad_jax.train.totals import BUCKETS, no_totals


class StopAt(StopRequest):
    """A request to which the n-th step is the last: it comes in the step before.

    Counts how often it is asked.
    """

    def __init__(self, step):
        super().__init__()
        self.step, self.asked = step, 0

    def __bool__(self):
        self.asked += 1
        return self.asked >= self.step - 1


@pytest.fixture
def stub(monkeypatch):
    """A model of one number and a step that only counts, to test the loop around."""

    def init(experiment, pretrained=None):
        params = {"number": jnp.zeros(2)}
        optimizer = make_optimizer(experiment.optimizer, 10)
        opt_state = optimizer.init(params)
        return TrainState(jnp.int32(0), params, params, opt_state, no_totals())

    def make(experiment, mesh):
        def train_step(state, frozen, batch):
            one = jax.tree.map(jnp.ones_like, state.totals)
            state = state._replace(step=state.step + 1, totals=one)
            return state, Signals(jnp.array(True), jnp.any(batch.stop > 0))

        return jax.jit(train_step)

    monkeypatch.setattr(start, "init_state", init)
    monkeypatch.setattr(loop, "make_train_step", make)
    plan = types.SimpleNamespace(summary=lambda workdir: "needs about nothing")
    monkeypatch.setattr(loop, "make_plan", lambda *_: plan)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def stored(workdir, step, state):
    """Everything in a checkpoint; ``state`` gives the shapes."""
    with Checkpoints(workdir) as checkpoints:
        return (
            checkpoints.trees(step, items(state)),
            checkpoints.records(step, ["data", "config"])["data"],
        )


def contents(workdir):
    """The files of a folder but its lock, and when they were changed."""
    files = (path for path in workdir.rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files if path.name != "lock"}


def metrics(workdir):
    return (workdir / "metrics.jsonl").read_text()


def logged_steps(workdir):
    return [json.loads(line)["step"] for line in metrics(workdir).splitlines()]


def events(workdir):
    """TensorBoard's events of all processes, in order: length, CRC, data, CRC."""
    for path in sorted((workdir / "tensorboard").iterdir(), key=os.path.getmtime):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack_from("<Q", data)
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def test_stopped_and_resumed_is_straight_bit_for_bit(
    tiny_experiment, tiny_run, tmp_path, capsys
):
    straight, expected = tiny_run
    halfway = train(tiny_experiment(), tmp_path, StopAt(5))
    assert halfway.step == 5
    assert_same(stored(tmp_path, 5, halfway), stored(straight, 5, halfway))
    assert_same(stored(tmp_path, 5, halfway)[0]["params"], halfway.params)
    assert metrics(tmp_path) == "".join(metrics(straight).splitlines(True)[:5])
    capsys.readouterr()

    state = train(tiny_experiment(), tmp_path, StopRequest())
    assert "rad-jax: resuming from step 5\n" in capsys.readouterr().err
    assert_same(state, expected)
    assert_same(stored(tmp_path, 10, state), stored(straight, 10, state))
    assert metrics(tmp_path) == metrics(straight)


def test_logs_of_a_run(tiny_run):
    workdir, _ = tiny_run
    lines, speed = (
        [json.loads(line) for line in (workdir / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "speed.jsonl")
    )
    assert [line["step"] for line in lines] == list(range(1, 11))
    always = {"step", "loss", "mse", "vlb", "grad_norm", "skipped"}
    some = {"loss_hole", "loss_known", *BUCKETS}
    assert all(always <= set(x) <= always | some for x in lines)
    assert all(set(x) & some for x in lines)
    names = {"step", "img_per_s", "step_seconds", "input_wait_share"}
    assert all(set(x) == names for x in speed)
    assert all(0 <= x["input_wait_share"] <= 1 for x in speed)
    for line, extra in zip(lines, speed, strict=True):
        assert extra["img_per_s"] == pytest.approx(4 / extra["step_seconds"])
        line.update(extra)
    found = {
        (event.step, value.tag): value.simple_value
        for event in events(workdir)
        for value in event.summary.value
        if not value.HasField("image")
    }
    for line in lines:
        step = line.pop("step")
        for name, number in line.items():
            assert found[step, name] == np.float32(number)


def test_sample_grids_of_a_run(tiny_run):
    workdir, _ = tiny_run
    names = sorted(path.name for path in (workdir / "samples").iterdir())
    assert names == ["0000005.png", "0000010.png"]
    grids = []
    for name in names:
        with Image.open(workdir / "samples" / name) as image:
            assert image.mode == "RGB"
            grids.append(np.asarray(image))
    # 8 digits a row; given, filled, truth of three kinds of masks; 64 pixels each.
    assert grids[0].shape[0] > 9 * 64 and grids[0].shape[1] > 8 * 64
    assert (grids[0] != grids[1]).any()
    rows = grids[1][2:]  # from the first digit on
    given, filled, truth = (rows[i * 66 : i * 66 + 64, 2:66] for i in range(3))
    hole = (given == 128) & (truth != 128)
    assert hole.any() and (filled[hole] != 128).any()
    assert (filled[given != 128] == truth[given != 128]).all()
    images = [e for e in events(workdir) if e.summary.value and e.step in (5, 10)]
    assert sum(e.summary.value[0].tag == "samples" for e in images) == 2


def test_resolved_config_is_left_to_read(tiny_run, tiny_experiment):
    workdir, _ = tiny_run
    stored_config = json.loads((workdir / "config.json").read_text())
    assert stored_config == to_dict(tiny_experiment("train.sample_every=5"))
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.records(10, ["config"])["config"] == stored_config


@pytest.mark.parametrize("at", [2, 3, 7])
def test_whatever_step_it_stops_at_is_saved(stub, tiny_experiment, tmp_path, at):
    """Also where nothing is logged, and where it saves anyway."""
    experiment = tiny_experiment("train.log_every=4", "train.checkpoint_every=3")
    stop = StopAt(at)
    state = train(experiment, tmp_path, stop)
    assert state.step == at == stop.asked
    stored(tmp_path, at, state)
    train(experiment, tmp_path, StopRequest())
    assert logged_steps(tmp_path) == [4, 8, 10]


def test_lines_after_the_checkpoint_are_dropped(stub, tiny_experiment, tmp_path):
    """A killed run has logged more than it has saved, the last line cut off."""
    experiment = tiny_experiment()
    train(experiment, tmp_path, StopAt(5))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 9.0}\n{"step": 7, "lo')
    train(experiment, tmp_path, StopRequest())
    assert logged_steps(tmp_path) == list(range(1, 11))
    assert "9.0" not in metrics(tmp_path)
    starts = [e.step for e in events(tmp_path) if e.HasField("session_log")]
    assert starts == [1, 6]  # TensorBoard drops what it has from there on


def test_finished_run_says_so_and_changes_nothing(tiny_experiment, tiny_run, capsys):
    workdir, expected = tiny_run
    before = contents(workdir)
    state = train(tiny_experiment("train.log_every=5"), workdir, StopRequest())
    assert capsys.readouterr().err == f"rad-jax: {workdir}: has 10 steps already\n"
    assert_same(state, expected)
    assert contents(workdir) == before


def test_constant_decay_can_be_trained_longer(stub, tiny_experiment, tmp_path):
    train(tiny_experiment(), tmp_path, StopRequest())
    longer = tiny_experiment("train.num_steps=12", "train.keep_checkpoints=1")
    assert train(longer, tmp_path, StopRequest()).step == 12
    assert os.listdir(tmp_path / "checkpoints") == ["12"]
    assert json.loads((tmp_path / "config.json").read_text()) == to_dict(longer)


@pytest.mark.parametrize(
    "changes, message",
    [
        (["seed=3"], "(seed is 0 there, 3 here)"),
        (["train.batch_size=8"], "(train.batch_size is 4 there, 8 here)"),
        (["loss.all_pixels=True"], "(loss.all_pixels is False there, True here)"),
        (["model.dropout=0.1"], "(model.dropout is 0.0 there, 0.1 here)"),
        (["optimizer.decay=cosine"], "decay is constant there, cosine here)"),
        (["data.train_split=test"], "(data.train_split is train there, test here)"),
    ],
)
def test_folder_of_another_config_is_left_alone(
    tiny_experiment, tiny_run, changes, message
):
    workdir, _ = tiny_run
    before = contents(workdir)
    with pytest.raises(UserError) as caught:
        train(tiny_experiment(*changes), workdir, StopRequest())
    assert f"{workdir}: holds a run of another config (" in str(caught.value)
    assert message in str(caught.value)
    assert contents(workdir) == before


def test_cosine_cannot_be_trained_longer(stub, tiny_experiment, tmp_path):
    cosine = "optimizer.decay=cosine"
    train(tiny_experiment(cosine), tmp_path, StopAt(2))
    with pytest.raises(UserError, match=r"train.num_steps is 10 there, 12 here"):
        train(tiny_experiment(cosine, "train.num_steps=12"), tmp_path, StopRequest())


def test_damaged_checkpoint_is_trained_again(
    tiny_experiment, tiny_run, tmp_path, capsys
):
    straight, expected = tiny_run
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    files = (p for p in (workdir / "checkpoints" / "10").rglob("*") if p.is_file())
    largest = max(files, key=os.path.getsize)
    os.truncate(largest, os.path.getsize(largest) // 2)
    state = train(tiny_experiment(), workdir, StopRequest())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"rad-jax: {workdir}/checkpoints/10: damaged, trying")
    assert lines[1] == "rad-jax: resuming from step 5"
    assert lines[2].startswith("rad-jax: needs about ")
    assert_same(state, expected)
    assert_same(stored(workdir, 10, state), stored(straight, 10, state))
    assert metrics(workdir) == metrics(straight)


def test_diverged_training_gives_up(stub, tiny_experiment, tmp_path, monkeypatch):
    """Three steps in a row, not three in all."""
    make = loop.make_train_step

    def diverging(experiment, mesh):
        good = make(experiment, mesh)

        def diverge(state, frozen, batch):
            state, signals = good(state, frozen, batch)
            finite = ~jnp.isin(state.step, jnp.array([2, 3, 5, 6, 7, 8]))
            return state, signals._replace(finite=finite)

        return jax.jit(diverge)

    monkeypatch.setattr(loop, "make_train_step", diverging)
    experiment = tiny_experiment("train.max_skipped=3", "train.checkpoint_every=2")
    with pytest.raises(UserError, match="in 3 steps in a row, up to step 7, the loss"):
        train(experiment, tmp_path, StopRequest())
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["4", "6"]


def test_one_run_at_a_time(stub, tiny_experiment, tmp_path):
    with lock(tmp_path), pytest.raises(UserError) as caught:
        train(tiny_experiment(), tmp_path, StopRequest())
    assert f"is used by another run (process {os.getpid()} on " in str(caught.value)
    assert train(tiny_experiment(), tmp_path, StopRequest()).step == 10


def test_checkpoints_of_multiples_stay(stub, tiny_experiment, tmp_path):
    keep = ("keep_checkpoints=1", "keep_every=4", "checkpoint_every=1")
    train(tiny_experiment(*(f"train.{x}" for x in keep)), tmp_path, StopRequest())
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["10", "4", "8"]


def test_profile_is_of_a_few_steps(stub, tiny_experiment, tmp_path, capsys):
    train(tiny_experiment(), tmp_path, StopRequest(), profile=True)
    assert f"rad-jax: the trace is in {tmp_path}/profile" in capsys.readouterr().err
    [trace] = (tmp_path / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 0


def test_images_of_another_size_are_refused(tiny_experiment, tmp_path):
    experiment = tiny_experiment("model.image_size=32")
    with pytest.raises(UserError, match=r"digits have 16x16 pixels, imag"):
        train(experiment, tmp_path, StopRequest())


def test_missing_data_set_says_how_to_prepare_it(tiny_experiment, tmp_path):
    experiment = tiny_experiment(f"data.data_dir={tmp_path}")
    with pytest.raises(UserError, match=f"prepare digits --data_dir {tmp_path}"):
        train(experiment, tmp_path / "run", StopRequest())
    assert not (tmp_path / "run").exists()


def test_full_disk_is_one_line(tiny_experiment, tmp_path):
    """At the start, and while logging; in another process, for its limit is for all.

    For checkpoints on a full disk see tests/cli/main_test.py.
    """
    program = """
import json, pathlib, resource, sys
import jax, jax.numpy as jnp
from rad_jax.config.experiment import from_dict
from rad_jax.errors import UserError
from rad_jax.train import loop
from rad_jax.train.step import Signals
from rad_jax.train.stop import StopRequest

def stub(experiment, mesh):
    def step(state, frozen, batch):
        signals = Signals(jnp.array(True), jnp.array(False))
        return state._replace(step=state.step + 1), signals
    return jax.jit(step)

loop.make_train_step = stub
experiment = from_dict(json.loads(sys.argv[1]))
for limit in (0, 3000, 2**40):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        loop.train(experiment, pathlib.Path(sys.argv[2]), StopRequest())
    except UserError as error:
        print(error)
"""
    experiment = tiny_experiment("train.checkpoint_every=50", "train.num_steps=50")
    argument = json.dumps(to_dict(experiment))
    done = subprocess.run(
        [sys.executable, "-c", program, argument, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"},  # no room for it either
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path}: cannot be written (File too large); free some space and run the "
        "same command again",
        f"{tmp_path}: the logs cannot be written (File too large); free some space and "
        "rerun the same command to resume",
    ]
    own = ("train: ", "rad-jax: needs about ")
    assert [x for x in done.stderr.splitlines() if not x.startswith(own)] == []
    assert logged_steps(tmp_path) == list(range(1, 51))
    assert json.loads((tmp_path / "config.json").read_text()) == to_dict(experiment)


def test_a_grid_must_be_possible(tiny):
    overrides = tiny("train.sample_every=5", "train.sample_steps=0")
    with pytest.raises(UserError, match=r"sample_steps is 0; it must lie in 1 .. 1000"):
        load_config("configs/digits.py", overrides)
