"""Processes of the launchers beside this: they write lines and leave nothing behind."""

import contextlib
import ctypes
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping

Ended = queue.Queue[tuple[int, int]]
"""Which process has ended, by its index, and its exit code (-N after signal N)."""

_LINUX = sys.platform == "linux"
_prctl = ctypes.CDLL(None).prctl if _LINUX else None


def show(command: Iterable[str], variables: Mapping[str, str]) -> None:
    """Prints a command as a shell would take it."""
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    print(" ".join([*words, shlex.join(command)]))


def start(command: list[str], variables: dict[str, str]) -> subprocess.Popen:
    """A group of its own: Ctrl-C reaches it from here only, hence once."""
    return subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_parent if _LINUX else None,
    )


def follow(index: int, process: subprocess.Popen, ended: Ended) -> threading.Thread:
    """Tells when it ends; returns the thread that writes its lines."""
    reader = threading.Thread(target=_copy, args=(index, process))
    reader.start()
    threading.Thread(target=_wait, args=(index, process, ended)).start()
    return reader


def kill(processes: Iterable[subprocess.Popen]) -> None:
    """At once, with what they have started."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def how(code: int) -> str:
    """How a process ended, in words."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def as_shell(code: int) -> int:
    """The exit code that a shell gives: 128 + N after signal N."""
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    assert _prctl
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _copy(index: int, process: subprocess.Popen) -> None:
    """Writes its lines; closes its pipe once nobody reads ours."""
    assert process.stdout
    with process.stdout as lines, contextlib.suppress(BrokenPipeError):
        for line in lines:
            sys.stdout.buffer.write(b"[%d] %s\n" % (index, line.rstrip(b"\n")))
            sys.stdout.buffer.flush()


def _wait(index: int, process: subprocess.Popen, ended: Ended) -> None:
    code = process.wait()
    kill([process])  # what it has started and left
    ended.put((index, code))
