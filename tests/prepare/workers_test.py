import itertools
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from rad_jax.errors import UserError
from rad_jax.prepare.workers import run_in_processes


def nap(seconds):
    time.sleep(seconds)
    yield


@pytest.mark.parametrize("num_workers", [1, 2])
def test_every_step_is_counted_and_errors_are_raised(num_workers):
    tasks = [3, 0, 7, *range(20)]
    assert len(list(run_in_processes(range, tasks, num_workers))) == sum(tasks)
    untyped: Any = ["text"]
    with pytest.raises(TypeError, match="interpreted as an integer"):
        list(run_in_processes(range, [*tasks, *untyped], num_workers))


def test_steps_are_counted_while_a_task_goes_on():
    steps = run_in_processes(itertools.repeat, [1], 2)  # one task without an end
    for _ in range(20_000):  # more than a pipe holds
        next(steps)
    steps.close()


def test_tasks_are_taken_as_they_are_needed():
    taken = []
    tasks = (taken.append(i) or 5 for i in range(1000))
    steps = run_in_processes(range, tasks, 2)
    next(steps)
    steps.close()
    assert len(taken) < 20


def test_killed_worker_is_one_line():
    end: Any = os._exit
    with pytest.raises(UserError, match=r"a worker process was killed.*--num_workers"):
        list(run_in_processes(end, [7], 2))


def test_workers_stop_with_the_loop():
    """A file may take a minute; Ctrl-C must not wait for it."""
    steps = run_in_processes(nap, [0.1, 600, 600], 2)
    next(steps)
    start = time.monotonic()
    steps.close()
    assert time.monotonic() - start < 10


def test_workers_die_with_a_killed_parent():
    program = """
import itertools, multiprocessing, os, signal
from rad_jax.prepare.workers import run_in_processes
steps = run_in_processes(itertools.repeat, [1, 1], 2)
next(steps)
print(*[p.pid for p in multiprocessing.active_children()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2, done.stderr
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"  # no zombie
    except FileNotFoundError:
        return False


def test_a_worker_imports_little():
    program = """
import sys
import rad_jax.prepare.shards, rad_jax.prepare.workers
heavy = {"jax", "flax", "grain", "tensorflow", "tensorflow_datasets", "torch"}
print(heavy & {name.split(".")[0] for name in sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
