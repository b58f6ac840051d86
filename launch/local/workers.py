"""Starts several workers of rad-jax inpaint on this machine, each with its part.

python launch/local/workers.py -- \
  rad-jax inpaint --model runs/digits --image photos --mask masks --output filled

Each worker has a GPU of its own; with --cpu, or where there is none, some of the cores.
They do not wait for each other, and one that crashes is started again. Lines that they
write come out on stdout, the worker's number before them. SIGINT and SIGTERM go on to
all, a second one ends them at once. The exit code is the largest of theirs (128 + N
after signal N).
"""

import argparse
import os
import signal
import subprocess
import sys
import time

from processes import Ended, as_shell, follow, how, kill, show, start

FINAL = (0, 1, 2, 141)
"""Done, done but for images that are named, a mistake, nobody reads what it prints."""


def main() -> int:
    """Starts the workers and waits for them; returns the worst exit code."""
    args = _parse()
    gpus = [] if args.cpu else _gpus()
    count = args.workers or len(gpus) or 1
    if gpus and count > len(gpus):
        _say(f"{count} workers need as many GPUs, and there are {len(gpus)}; or --cpu")
        return 2
    if len(gpus) > count:
        _say(f"{count} of {len(gpus)} GPUs used")
    variables = [_variables(index, count, gpus) for index in range(count)]
    if args.dry_run:
        for each in variables:
            show(args.command, each)
        return 0
    try:
        return _Workers(args.command, variables, args.max_restarts, args.pause).run()
    except OSError as error:
        _say(f"{args.command[0]}: {error.strerror}")
        return 2


class _Workers:
    """All of them, until each has ended for good."""

    def __init__(
        self,
        command: list[str],
        variables: list[dict[str, str]],
        max_restarts: int,
        pause: float,
    ):
        self._command, self._variables = command, variables
        self._max_restarts, self._pause = max_restarts, pause
        self._running: dict[int, subprocess.Popen] = {}
        self._readers, self._ended, self._signal = [], Ended(), 0

    def run(self) -> int:
        """Returns the worst exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        worst, restarts = 0, [0] * len(self._variables)
        try:
            for index in range(len(self._variables)):
                self._start(index)
            while self._running:
                index, code = self._ended.get()
                del self._running[index]
                if self._again(index, code, restarts[index]):
                    restarts[index] += 1
                    self._start(index)
                else:
                    worst = max(worst, as_shell(code))
        finally:
            kill(self._running.values())
        for reader in self._readers:
            reader.join()
        return worst

    def _start(self, index: int) -> None:
        process = start(self._command, self._variables[index])
        self._running[index] = process
        self._readers.append(follow(index, process, self._ended))
        if self._signal:  # it came meanwhile
            process.send_signal(self._signal)

    def _again(self, index: int, code: int, restarts: int) -> bool:
        """Whether a worker that has ended is to be started again."""
        if code == 0 or self._signal:
            return False
        ended = f"worker {index} ended with {how(code)}"
        if code in FINAL:
            _say(ended)
            return False
        if restarts >= self._max_restarts:
            _say(f"{ended} after {restarts} restarts: given up")
            return False
        _say(f"{ended}: started again")
        time.sleep(self._pause)
        return not self._signal

    def _stop(self, number: int, _frame: object) -> None:
        if self._signal:
            kill(self._running.values())
        self._signal = number
        for process in self._running.values():
            process.send_signal(number)  # not sent to those that have ended


def _variables(index: int, count: int, gpus: list[str]) -> dict[str, str]:
    """What a worker is told: its part, and its share of the machine."""
    part = {"RAD_JAX_PROCESS_ID": str(index), "RAD_JAX_NUM_PROCESSES": str(count)}
    if gpus:
        share = {"CUDA_VISIBLE_DEVICES": gpus[index]}
    else:
        cores = str(max(1, _cores() // count))
        share = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": cores}
    return {**part, **share, "PYTHONUNBUFFERED": "1"}


def _gpus() -> list[str]:
    """NVIDIA's, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [x.strip() for x in given.split(",") if x.strip() not in ("", "-1")]
    command = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return []
    return found.stdout.split() if found.returncode == 0 else []


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _say(text: str) -> None:
    print(f"workers: {text}", file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage="%(prog)s [options] -- COMMAND ...")
    parser.add_argument("--workers", type=int, help="by default one for each GPU")
    parser.add_argument("--cpu", action="store_true", help="leave GPUs alone")
    parser.add_argument("--max_restarts", type=int, default=20, help="of each worker")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds before one")
    parser.add_argument("--dry_run", action="store_true", help="only print")
    parser.add_argument("command", nargs="+", help="after --")
    args = parser.parse_args()
    if args.workers is not None and args.workers < 1:
        parser.error("--workers must be 1 or more")
    if min(args.max_restarts, args.pause) < 0:
        parser.error("--max_restarts and --pause must not be negative")
    return args


if __name__ == "__main__":
    sys.exit(main())
