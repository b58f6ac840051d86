"""launch/local/workers.py: stand-ins that do not take long, and rad-jax inpaint."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet
import pytest

from tests.conftest import ROOT
from tests.jobs.files_test import mask, picture
from tests.sharing.small import network, write

WORKERS = ROOT / "launch" / "local" / "workers.py"
TWO = ("--workers", "2", "--cpu", "--pause", "0")


def start(*words, **variables):
    return subprocess.Popen(
        [sys.executable, WORKERS, *words],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*words, **variables):
    """Exit code, sorted lines of stdout, lines of stderr."""
    process = start(*words, **variables)
    out, err = process.communicate(timeout=60)
    return process.returncode, sorted(out.splitlines()), err.splitlines()


def bash(shell):
    """A stand-in for a worker, which knows its number as $I."""
    return ("--", "bash", "-c", f"I=$RAD_JAX_PROCESS_ID; {shell}")


def test_two_workers_fill_every_picture_once(tmp_path):
    model = write(tmp_path / "model", network(in_channels=3, out_channels=3))
    for i in range(6):
        picture(tmp_path / "i" / f"{i}.png", (16, 16), i)
        mask(tmp_path / "m" / f"{i}.png", (16, 16), np.s_[4:8])
    flags = (
        *("--model", model, "--steps", "1", "--batch_size", "2"),
        *("--image", tmp_path / "i", "--mask", tmp_path / "m"),
        *("--output", tmp_path / "out"),
    )
    words = [str(flag) for flag in flags]
    code, out, err = run(*TWO, "--", sys.executable, "-m", "rad_jax", "inpaint", *words)
    assert code == 0, (out, err)
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "manifest").to_pylist()
    assert sorted(row["id"] for row in rows) == [str(i) for i in range(6)]
    assert {row["status"] for row in rows} == {"ok"}
    assert len([*(tmp_path / "out").glob("*.png")]) == 6
    parts = {x.name[:14] for x in (tmp_path / "out" / "manifest").glob("*.parquet")}
    assert parts == {"00000-of-00002", "00001-of-00002"}


def test_who_crashes_is_started_again(tmp_path):
    begun = tmp_path / "begun"
    crash = f'if [ $I = 1 ] && [ ! -e "{begun}" ]; then touch "{begun}"; kill -9 $$; fi'
    code, out, err = run(*TWO, *bash(f"echo $I; {crash}"))
    assert (code, out) == (0, ["[0] 0", "[1] 1", "[1] 1"])
    assert err == ["workers: worker 1 ended with SIGKILL: started again"]


def test_who_crashes_again_and_again_is_given_up_and_the_others_go_on():
    shell = "if [ $I = 0 ]; then exit 3; fi; sleep 1; echo done"
    code, out, err = run(*TWO, "--max_restarts", "2", *bash(shell))
    again = "workers: worker 0 ended with exit code 3: started again"
    given_up = "workers: worker 0 ended with exit code 3 after 2 restarts: given up"
    assert (code, out, err) == (3, ["[1] done"], [again, again, given_up])


@pytest.mark.parametrize("final", [1, 2])
def test_what_would_be_the_same_is_not_done_again(final):
    code, out, err = run(*TWO, *bash(f"echo $I; exit $(($I * {final}))"))
    assert (code, out) == (final, ["[0] 0", "[1] 1"])
    assert err == [f"workers: worker 1 ended with exit code {final}"]


def test_the_worst_exit_code_is_returned():
    assert run(*TWO, *bash("exit $((2 - $I))"))[0] == 2
    shell = 'if [ $I = 0 ]; then kill -KILL "$$"; fi; exit 2'
    assert run(*TWO, "--max_restarts", "0", *bash(shell))[0] == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_them_for_good(number):
    process = start(*TWO, *bash('trap "exit 130" INT; echo up; sleep 99 & wait'))
    assert process.stdout
    assert {process.stdout.readline() for _ in range(2)} == {"[0] up\n", "[1] up\n"}
    begun = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert time.monotonic() - begun < 15


def test_a_second_signal_ends_those_that_do_not_listen():
    shell = 'trap "echo told" TERM; echo up; while :; do sleep 99 & wait $!; done'
    process = start(*TWO, *bash(shell))
    assert process.stdout
    for said in ("up", "told"):
        lines = {process.stdout.readline() for _ in range(2)}
        assert lines == {f"[0] {said}\n", f"[1] {said}\n"}
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 137


def test_each_worker_has_its_gpu_or_its_cores():
    told = run(*bash("echo $CUDA_VISIBLE_DEVICES"), CUDA_VISIBLE_DEVICES="3,GPU-5")
    assert told == (0, ["[0] 3", "[1] GPU-5"], [])
    cores = max(1, len(os.sched_getaffinity(0)) // 2)
    expected = [f"[{i}] cpu {cores}" for i in range(2)]
    shell = "echo $JAX_PLATFORMS $JAX_NUM_CPU_DEVICES"
    for gpus in ("", "-1"):
        told = run("--workers", "2", *bash(shell), CUDA_VISIBLE_DEVICES=gpus)
        assert told == (0, expected, [])


def test_gpus_are_counted(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["env", "-u", "CUDA_VISIBLE_DEVICES", sys.executable, WORKERS]
    flags = ("--", "bash", "-c", "echo $CUDA_VISIBLE_DEVICES")
    found = subprocess.run(
        [*command, *flags],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert sorted(found.stdout.splitlines()) == ["[0] 0", "[1] 1", "[2] 2"]


def test_a_mistake_takes_one_line():
    def fails(*words, **variables):
        code, out, err = run(*words, **variables)
        assert (code, out) == (2, [])
        return err[-1]

    assert fails(*TWO, "--", "no-such-program") == (
        "workers: no-such-program: No such file or directory"
    )
    assert fails("--workers", "3", "--", "true", CUDA_VISIBLE_DEVICES="0,1") == (
        "workers: 3 workers need as many GPUs, and there are 2; or --cpu"
    )
    assert "1 or more" in fails("--workers", "0", "--", "true")
    assert "required: command" in fails("--workers", "2")
