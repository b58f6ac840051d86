"""Several processes of one run: how they find each other, and how they end.

JAX's own runtime does the work. A launcher sets RAD_JAX_COORDINATOR (host:port),
RAD_JAX_NUM_PROCESSES and RAD_JAX_PROCESS_ID, or JAX finds out by itself: under Slurm,
on Cloud TPU and on GKE. RAD_JAX_EXPECT_PROCESSES is what the launcher expects, checked
here. RAD_JAX_STOPPED_EXIT_CODE is the exit code of a run that SIGTERM has stopped.
"""

import contextlib
import importlib.util
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils

from rad_jax.errors import UserError
from rad_jax.runtime.heartbeat import gather, start_heartbeat, stop_heartbeat

EXPLICIT = ("RAD_JAX_COORDINATOR", "RAD_JAX_NUM_PROCESSES", "RAD_JAX_PROCESS_ID")
STOPPED = "RAD_JAX_STOPPED_EXIT_CODE"
EXPECTED = "RAD_JAX_EXPECT_PROCESSES"
TIMEOUT = "RAD_JAX_START_TIMEOUT"

# Seconds that a process may hang until JAX ends all of them. Of one that ends,
# `heartbeat` learns at once.
HEARTBEAT_TIMEOUT = 30

T = TypeVar("T")


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Joins the processes of this run, and leaves them; with one, does nothing.

    To be entered before JAX is used. Where a process of several fails, it ends here and
    now, with exit code 2 for a UserError: JAX would wait for the others, which wait for
    this one.

    Raises:
      UserError: see ``start``.
    """
    start()
    if jax.process_count() == 1:
        yield
        return
    try:
        yield
    except BaseException as error:
        if isinstance(error, UserError):
            print(f"rad-jax: {error}", file=sys.stderr, flush=True)
            time.sleep(5)  # the others may be about to say the same
            os._exit(2)
        time.sleep(2)  # if another process is gone, the heartbeat says so and exits
        traceback.print_exc()
        os._exit(1)
    stop_heartbeat()


def start() -> None:
    """Joins the processes of this run; with one, does nothing.

    To be called before JAX is used.

    Raises:
      UserError: the variables contradict each other, the others do not come, or they
        are not as many as expected.
    """
    explicit, seconds = _explicit(), _number(TIMEOUT, 600)
    options: dict[str, Any] = {
        "heartbeat_timeout_seconds": HEARTBEAT_TIMEOUT,
        "initialization_timeout": seconds,
        "shutdown_timeout_seconds": 30,
    }
    if explicit:
        gather(
            explicit["coordinator_address"],
            explicit["num_processes"],
            explicit["process_id"],
            seconds,
        )
    if explicit or _is_detected():
        # We handle SIGTERM: JAX's handler would take it from us.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(**explicit, **options)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the processes of the run could not connect ({reason}); check "
                f"{EXPLICIT[0]} and that all of them were started"
            ) from error
    expected, found = _number(EXPECTED, 0), jax.process_count()
    if expected and found != expected:
        raise UserError(
            f"the launcher expected {expected} processes ({EXPECTED}), and there are "
            f"{found}; check that each host started one and sees the others"
        )
    if found > 1:
        start_heartbeat()


def stopped_exit_code() -> int:
    """Of a run that SIGTERM has stopped: 0, unless the launcher asks for another.

    Kubernetes and Slurm take 0 for a run that is done.
    """
    return _number(STOPPED, 0)


def is_main() -> bool:
    """Whether this is the process that writes logs and messages."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line on stderr, once for all processes."""
    if is_main():
        print(f"rad-jax: {text}", file=sys.stderr, flush=True)


def from_main(value: T) -> T:
    """The main process's value, a tree of numbers; all processes must call it."""
    if jax.process_count() == 1:
        return value
    return multihost_utils.broadcast_one_to_all(value)


def _explicit() -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` from the environment, or none."""
    given = [name for name in EXPLICIT if os.environ.get(name)]
    if not given:
        return {}
    missing = [name for name in EXPLICIT if name not in given]
    if missing:
        raise UserError(f"{given[0]} is set, {missing[0]} is not; set all or none")
    address, count = os.environ[EXPLICIT[0]], _number(EXPLICIT[1], 1)
    index = _number(EXPLICIT[2], 0)
    if not re.fullmatch(r"[^\s]+:\d+", address):
        raise UserError(f"{EXPLICIT[0]} is {address!r}; it must be HOST:PORT")
    if not index < count:
        raise UserError(
            f"{EXPLICIT[2]} is {index}; with {count} processes it is 0 .. {count - 1}"
        )
    return {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }


def _is_detected() -> bool:
    """Whether the environment is one in which JAX finds several processes itself."""
    env = os.environ
    slurm = "SLURM_STEP_ID" in env and int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    # A TPU VM asks its metadata server for the others.
    tpu = importlib.util.find_spec("libtpu") is not None and (
        os.path.exists("/dev/accel0") or os.path.exists("/dev/vfio/0")
    )
    return slurm or tpu


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}; it must be a number")
    return int(text)
