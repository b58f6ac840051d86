"""Divides work among processes, which end when this one does, and counts it."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TypeVar

from rad_jax.errors import UserError

Task = TypeVar("Task")

_counted: Connection | None = None  # in a worker: where it says that a step is done


def run_in_processes(
    function: Callable[[Task], Iterable], tasks: Iterable[Task], num_workers: int
) -> Generator[None, None, None]:
    """Runs a function of many steps on each task, and yields whenever a step is done.

    Processes are started afresh (spawned), not forked: a script that calls this needs
    ``if __name__ == "__main__":``. When the loop over this ends, by an error or Ctrl-C
    too, or when this process is killed, they are gone.

    Args:
        function: it makes a step when the next item of what it returns is asked for.
            It and its tasks can be pickled.
        tasks: taken as they are needed.
        num_workers: how many processes; with 1 this one does the work.

    Raises:
        UserError: a process was killed, e.g. for want of memory; or the function's.
    """
    if num_workers == 1:
        for task in tasks:
            for _ in function(task):
                yield
        return
    context = multiprocessing.get_context("spawn")
    # Nobody ever writes to it: the processes see it closed when we close our end, or
    # when the system does because we are dead.
    life, ours = context.Pipe(duplex=False)
    counted, theirs = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, context, _start, (life, theirs)
    )
    try:
        waiting: set[Future] = set()
        for task in tasks:
            waiting.add(pool.submit(_run, function, task))
            if len(waiting) >= 2 * num_workers:
                waiting = yield from _steps(waiting, counted)
        while waiting:
            waiting = yield from _steps(waiting, counted)
        pool.shutdown()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory; rerun the same "
            "command to resume, with a smaller --num_workers"
        ) from error
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        for end in (life, counted, theirs):
            end.close()


def _steps(
    futures: set[Future], counted: Connection
) -> Generator[None, None, set[Future]]:
    """Yields steps until a task is done; returns the tasks that are not."""
    done: set[Future] = set()
    while not done:
        done, futures = concurrent.futures.wait(
            futures, timeout=0.1, return_when=concurrent.futures.FIRST_COMPLETED
        )
        while counted.poll():
            counted.recv_bytes()
            yield
    for future in done:
        future.result()
    return futures


def _start(life: Connection, counted: Connection) -> None:
    """Prepares a process."""
    global _counted
    _counted = counted
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()


def _end_with(life: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        life.recv()
    os._exit(1)


def _run(function: Callable[[Task], Iterable], task: Task) -> None:
    assert _counted is not None  # by _start
    for _ in function(task):
        _counted.send_bytes(b"")  # so short that several may write at once
