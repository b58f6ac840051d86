"""Several processes, as a launcher starts them; killed, stopped, and fewer of them."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.errors import UserError
from rad_jax.runtime import heartbeat
from rad_jax.runtime.distributed import joined
from rad_jax.runtime.heartbeat import gather
from rad_jax.train import state
from rad_jax.train.start import items
from tests.conftest import DIGITS, ROOT
from tests.train import matrix

LAUNCH = [sys.executable, str(ROOT / "launch" / "local" / "launch.py")]
RAD = [sys.executable, "-m", "rad_jax"]

# XLA divides the work of a convolution by the number of threads, that is of cores or
# of a process's devices if they are more. So that sums have one order in all layouts:
ENV = os.environ | {"NPROC": "2", "PYTHONPATH": str(ROOT)}

# Processes of one run do not find what others have compiled.
QUICK = """
import sys
from tests.train import matrix
matrix.install()
from rad_jax.cli.main import main
sys.exit(main())
"""


def command(overrides, workdir, program=RAD):
    arguments = ["--config", str(DIGITS), "--workdir", str(workdir)]
    return [*program, "train", *arguments, *overrides]


def quick(overrides, workdir):
    return command(overrides, workdir, [sys.executable, "-c", QUICK])


@contextlib.contextmanager
def started(arguments, *, processes=1, devices=2, **env):
    """A run of so many processes, each with so many devices."""
    if processes > 1:
        numbers = ["--processes", str(processes), "--devices", str(devices)]
        arguments = [*LAUNCH, *numbers, "--", *arguments]
    process = subprocess.Popen(
        arguments,
        env=ENV | {"JAX_NUM_CPU_DEVICES": str(devices)} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(process, code=0):
    """Its output, when it has ended with this exit code."""
    output, _ = process.communicate(timeout=240)
    assert process.returncode == code, output
    assert "ended unexpectedly" not in output
    return output


def logged(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(process, condition):
    while not condition():
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        time.sleep(0.01)


def arrays(workdir, experiment, step):
    shapes = jax.eval_shape(lambda: state.init_state(experiment))
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.trees(step, items(shapes))


def assert_same_run(one, other, experiment):
    step = experiment.train.num_steps
    assert logged(one) == logged(other)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(arrays(workdir, experiment, step) for workdir in (one, other)),
    )


def test_killed_and_stopped_on_one_process_and_two(
    tiny, tiny_experiment, tmp_path, monkeypatch
):
    """Two processes are killed, one goes on, is stopped, and two of them end it.

    They have two devices in all, each time, and so the same bits. The positions in the
    data that were saved tell that nothing was skipped or repeated.
    """
    changes = ("num_steps=100", "checkpoint_every=20", "batch_size=8", "log_every=3")
    changes = [f"train.{change}" for change in changes]
    matrix.install(monkeypatch.setattr)
    experiment, overrides = tiny_experiment(*changes), tiny(*changes)
    run, straight = tmp_path / "run", tmp_path / "straight"
    with started(quick(overrides, straight)) as process:
        finish(process)

    with started(quick(overrides, run), processes=2, devices=1) as process:
        wait_for(process, lambda: (run / "checkpoints" / "20").exists())
        process.kill()
    with started(quick(overrides, run), RAD_JAX_STOPPED_EXIT_CODE="143") as process:
        wait_for(process, lambda: len(logged(run)) >= 15)
        process.send_signal(signal.SIGTERM)
        output = finish(process, code=143)
    assert "rad-jax: resuming from step " in output
    assert "checkpoint written; rerun the same command to resume" in output
    stopped = max(map(int, os.listdir(run / "checkpoints")))
    assert 45 <= stopped < 100
    with Checkpoints(run) as checkpoints:
        data = checkpoints.records(stopped, ["data"])["data"]
    assert data == {"global_next_index": 8 * stopped}

    with started(quick(overrides, run), processes=2, devices=1) as process:
        output = finish(process)
    assert output.count(f"rad-jax: resuming from step {stopped}\n") == 1
    assert output.count("rad-jax: trained 100 steps") == 1
    assert_same_run(run, straight, experiment)


def test_ctrl_c_stops_and_a_finished_run_ends_well(tiny, tmp_path):
    long = tiny("train.num_steps=100000", "train.checkpoint_every=100000")
    run = tmp_path / "run"
    with started(quick(long, run), devices=1) as process:
        wait_for(process, lambda: len(logged(run)) >= 2)
        process.send_signal(signal.SIGINT)
        output = finish(process, code=130)
    [step] = map(int, os.listdir(run / "checkpoints"))
    assert output.endswith(
        f"rad-jax: stopped at step {step}, checkpoint written; rerun the same "
        "command to resume\n"
    )
    assert "Traceback" not in output
    last = tiny(f"train.num_steps={step + 1}")
    with started(quick(last, run), devices=1) as process:
        output = finish(process)
    assert output.endswith(f"rad-jax: trained {step + 1} steps; the model is {run}\n")


def test_sigterm_stops_all_processes_in_the_same_step(tiny, tmp_path):
    """Though it reaches only one of them."""
    long = tiny("train.num_steps=100000", "train.checkpoint_every=100000")
    run = tmp_path / "run"
    with started(quick(long, run), processes=2, devices=1) as process:
        wait_for(process, lambda: len(logged(run)) >= 2)
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
        )
        os.kill(int(children.stdout.split()[-1]), signal.SIGTERM)
        output = finish(process)
    [step] = map(int, os.listdir(run / "checkpoints"))
    assert output.count(f"rad-jax: stopped at step {step}, checkpoint written") == 1
    assert json.loads(logged(run)[-1])["step"] <= step


DYING = """
import os, signal, sys, time
import jax, numpy as np
from rad_jax.runtime import distributed
from rad_jax.runtime.sharding import local_copy, make_mesh, place_batch
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, to those that are left
with distributed.joined():
    mesh = make_mesh()
    for step in range(20):
        local_copy(place_batch(np.ones(1, np.float32), mesh), mesh)
    if jax.process_index() == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(90)  # as an accelerator waits, which does not notice
"""

LEAVING = """
import os, time, jax
from rad_jax.runtime import distributed
with distributed.joined():
    pass
if jax.process_index() == 0:
    time.sleep(3)
    print("in peace", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("victim", [0, 1])
def test_one_process_dies_and_the_others_say_which(victim):
    arguments = [sys.executable, "-c", DYING, str(victim)]
    start = time.monotonic()
    with started(arguments, processes=3, devices=1) as process:
        output, _ = process.communicate(timeout=100)
    assert time.monotonic() - start < 60
    for other in {0, 1, 2} - {victim}:
        line = (
            f"[{other}] rad-jax: process {victim} ended unexpectedly; process "
            f"{other} stops too. See what process {victim} printed, and rerun the "
            "same command to resume\n"
        )
        assert output.count(line) == 1, output
    # The launcher's, of the process whose end it sees first.
    assert process.returncode in (1, 128 + signal.SIGKILL)


def test_process_that_is_done_may_leave_before_the_others():
    with started([sys.executable, "-c", LEAVING], processes=2, devices=1) as process:
        assert "[0] in peace" in finish(process)


def test_mistake_of_all_is_told_and_ends_all(tiny, tmp_path):
    """A batch that the devices cannot share, found by each process."""
    overrides = tiny("train.batch_size=3")
    with started(command(overrides, tmp_path / "run"), processes=2) as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 2
    line = "rad-jax: train.batch_size is 3, which 4 devices cannot share equally"
    assert f"[0] {line}" in output and f"[1] {line}" in output
    assert "Traceback" not in output and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "env, message",
    [
        (
            {"RAD_JAX_EXPECT_PROCESSES": "2"},
            "expected 2 processes (RAD_JAX_EXPECT_PROCESSES), and there are 1",
        ),
        (
            {"RAD_JAX_COORDINATOR": "here:1"},
            "RAD_JAX_COORDINATOR is set, RAD_JAX_NUM_PROCESSES is not; set all or none",
        ),
        (
            {
                "RAD_JAX_COORDINATOR": "here",
                "RAD_JAX_NUM_PROCESSES": "2",
                "RAD_JAX_PROCESS_ID": "0",
            },
            "RAD_JAX_COORDINATOR is 'here'; it must be HOST:PORT",
        ),
        (
            {
                "RAD_JAX_COORDINATOR": "here:1",
                "RAD_JAX_NUM_PROCESSES": "2",
                "RAD_JAX_PROCESS_ID": "2",
            },
            "RAD_JAX_PROCESS_ID is 2; with 2 processes it is 0 .. 1",
        ),
        ({"RAD_JAX_EXPECT_PROCESSES": "x"}, "is 'x'; it must be a number"),
    ],
)
def test_contract_of_the_launcher(monkeypatch, env, message):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught, joined():
        pass
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "index, message",
    [
        (0, "of 3 processes [1, 2] did not come in time"),
        (1, "process 0 does not answer at 127.0.0.1:"),
    ],
)
def test_process_without_the_others_gives_up(index, message):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UserError) as caught:
        gather(f"127.0.0.1:{port}", count=3, index=index, seconds=1)
    assert message in str(caught.value)


def test_hosts_that_do_not_reach_each_other_are_one_line(monkeypatch):
    """JAX came through, the heartbeat's port did not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hosts = np.frombuffer(b"127.0.0.1" + b"\0" * 7, np.uint8)
    sent = np.int32(port), np.zeros(16, np.uint8), hosts
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(
        heartbeat.multihost_utils, "broadcast_one_to_all", lambda _: sent
    )
    with pytest.raises(UserError, match=r"process 1: no connection .* \(.*refused\)"):
        heartbeat.start_heartbeat()


@pytest.mark.slow
def test_killed_twenty_times(tiny, tiny_experiment, tmp_path):
    """At random moments: while it starts, trains, or writes checkpoints and logs."""
    changes = ("train.num_steps=2000", "train.checkpoint_every=20", "train.log_every=7")
    experiment, overrides = tiny_experiment(*changes), tiny(*changes)
    run, straight = tmp_path / "run", tmp_path / "straight"
    with started(command(overrides, straight), devices=1) as process:
        finish(process)
    rng, reached = random.Random(0), []
    for kill in range(20):
        with started(command(overrides, run), devices=1) as process:
            # Never so far that the others could not kill it any more.
            target = 2000 * (kill + rng.random()) / 21
            wait_for(process, lambda at=target: 7 * len(logged(run)) >= at)
            time.sleep(rng.random() * 0.3)
            process.kill()
        steps = [x for x in os.listdir(run / "checkpoints") if x.isdigit()]
        reached.append(max(map(int, steps), default=0))
    assert 0 < reached[5] < reached[10] < reached[19] < 2000
    with started(command(overrides, run), devices=1) as process:
        finish(process)
    assert_same_run(run, straight, experiment)
    assert not list(run.rglob("*tmp*"))


@pytest.mark.slow
@pytest.mark.parametrize("program", [quick, command])
def test_every_layout_gives_the_same_losses(tiny, tmp_path, program):
    """To the bit on as many devices, however many processes have them."""
    layouts = {  # processes, devices of each, fsdp
        "1": (1, 1, 1),
        "1x2": (1, 2, 1),
        "2x1": (2, 1, 1),
        "1x8": (1, 8, 1),
        "1x8, fsdp": (1, 8, 2),
        "2x4": (2, 4, 1),
        "2x4, fsdp": (2, 4, 2),
    }
    if program is quick:  # those that differ most
        layouts = {name: layouts[name] for name in ("1", "1x8", "2x4, fsdp")}
    lines = {}
    for name, (processes, devices, fsdp) in layouts.items():
        workdir = tmp_path / name.replace(", ", "_")
        overrides = tiny("train.batch_size=8", f"train.fsdp={fsdp}")
        with started(
            program(overrides, workdir),
            processes=processes,
            devices=devices,
            NPROC="8",
        ) as process:
            finish(process)
        lines[name] = logged(workdir)
    records = {name: list(map(json.loads, found)) for name, found in lines.items()}
    for name, found in records.items():
        assert len(found) == 10
        for key, tolerance in (("loss", 1e-5), ("grad_norm", 1e-4)):
            np.testing.assert_allclose(
                [line[key] for line in found],
                [line[key] for line in records["1"]],
                rtol=tolerance,
                err_msg=f"{key}, {name}",
            )
        devices = layouts[name][0] * layouts[name][1]
        same = [x for x, (n, d, _) in layouts.items() if n * d == devices]
        assert all(lines[other] == lines[name] for other in same), name
