"""Starts several processes of a program on this machine, as a cluster would.

python launch/local/launch.py --processes 2 --devices 4 -- \
  rad-jax train --config configs/digits.py --workdir runs/digits

Each process has virtual CPU devices and finds the others over the loopback interface.
Lines that they write come out on stdout, the process's index before them. SIGINT and
SIGTERM go on to all. When one ends badly, the others are told to stop, and the exit
code is its (128 + N after signal N).
"""

import argparse
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from processes import Ended, as_shell, follow, how, kill, show, start


def main() -> int:
    """Starts the processes and waits for them; returns the first bad exit code."""
    args = _parse()
    address = f"127.0.0.1:{args.port or _free_port()}"
    variables = [
        {
            "RAD_JAX_COORDINATOR": address,
            "RAD_JAX_NUM_PROCESSES": str(args.processes),
            "RAD_JAX_PROCESS_ID": str(index),
            "RAD_JAX_EXPECT_PROCESSES": str(args.processes),
            "JAX_COORDINATOR_BIND_ADDRESS": address,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(args.devices),
            "PYTHONUNBUFFERED": "1",
        }
        for index in range(args.processes)
    ]
    if args.dry_run:
        for each in variables:
            show(args.command, each)
        return 0

    processes: list[subprocess.Popen] = []

    def send(number: int, _frame: object = None) -> None:
        for process in processes:
            process.send_signal(number)  # not sent to those that have ended

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, send)
    try:
        for each in variables:
            processes.append(start(args.command, each))
    except OSError as error:
        kill(processes)
        _say(f"{args.command[0]}: {error.strerror}")
        return 2
    return _follow(processes, args.grace, lambda: send(signal.SIGTERM))


def _follow(
    processes: list[subprocess.Popen], grace: float, stop: Callable[[], None]
) -> int:
    """Until all have ended."""
    ended: Ended = queue.Queue()
    readers = [follow(i, process, ended) for i, process in enumerate(processes)]
    first_bad, deadline, running = 0, None, set(range(len(processes)))
    while running:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            index, code = ended.get(timeout=left)
        except queue.Empty:
            _say(f"not stopped after {grace:g} s, killed: {sorted(running)}")
            kill([processes[index] for index in running])
            deadline = None
            continue
        running.remove(index)
        if code and not first_bad:
            first_bad = as_shell(code)
            others = f"; stopping {sorted(running)}" if running else ""
            _say(f"process {index} ended with {how(code)}{others}")
            stop()
            deadline = time.monotonic() + grace
    for reader in readers:
        reader.join()
    return first_bad


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _say(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage="%(prog)s [options] -- COMMAND ...")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1, help="of each process")
    parser.add_argument("--port", type=int, help="by default a free one")
    parser.add_argument("--grace", type=float, default=60.0, help="seconds to stop")
    parser.add_argument("--dry_run", action="store_true", help="only print")
    parser.add_argument("command", nargs="+", help="after --")
    args = parser.parse_args()
    if min(args.processes, args.devices) < 1:
        parser.error("--processes and --devices must be 1 or more")
    return args


if __name__ == "__main__":
    sys.exit(main())
