"""`rad-jax inpaint` with a network that only takes time: what is left is the rest.

  python benchmarks/stand_in_command.py MILLISECONDS STARTED inpaint --model M ...
MILLISECONDS are an image's, STARTED is the time at which the process was started. The
last line of its output is JSON. The code is that which PYTHONPATH has, of any age.
"""

import importlib
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.cli.main import main
from rad_jax.inference.fill_regions import Fills

NEW, OLD = "rad_jax.jobs", "rad_jax.inference"
COMMAND = "inpaint_command"


def stand_in(milliseconds: float) -> Fills:
    """A network on a device of its own: the cores are free while it computes.

    It gives the images back: what is encoded then is a photograph.
    """

    def fill(images: np.ndarray, holes: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        del holes, seeds
        time.sleep(len(images) * milliseconds / 1000)
        return images

    return Fills(fill, fill)


def first_outcome() -> list[float]:
    """Gets the time when the first picture was done, written or kept for its shard."""
    told = importlib.import_module(f"{NEW}.told")
    times: list[float] = []
    add = told.Told.add

    def noting(self, outcome):
        if not times:
            times.append(time.time())
        return add(self, outcome)

    told.Told.add = noting
    return times


def run(milliseconds: float, started: float, arguments: list[str]) -> None:
    """Runs the command, and says what it took."""
    new = importlib.util.find_spec(NEW) is not None
    command: Any = importlib.import_module(f"{NEW if new else OLD}.{COMMAND}")
    command._fills = lambda *_: stand_in(milliseconds)
    first = first_outcome() if new else []
    imported, wall, cpu = time.time(), time.perf_counter(), time.process_time()
    code = main(arguments)
    record = {
        "code": code,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "seconds_to_import": imported - started,
        "first_image_seconds": first[0] - started if first else None,
        "peak_mib": status_mib("self", "VmHWM"),
    }
    print(json.dumps(record))


def status_mib(process: int | str, name: str) -> float | None:
    """What Linux says of a process's memory: "VmRSS" is now, "VmHWM" its most.

    The most that `resource` tells begins with that of the parent. None if it is gone.
    """
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    found = [x.split()[1] for x in text.splitlines() if x.startswith(f"{name}:")]
    return int(found[0]) / 1024 if found else None


if __name__ == "__main__":
    run(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
