"""From the start of `rad-jax inpaint` to the picture: at first, and compiled before.

The command is a user's, in a process of its own, with a cache that is empty at first.
"nothing" is `rad-jax --version`; weights are random.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.inpainting import random_model
from benchmarks.measured import measured, store
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.config.file import load_config
from rad_jax.files.pictures import save_png

CASES = {"cpu": ("digits",), "gpu": ("digits", "ffhq256")}
STEPS = 10


def seconds_of(arguments: list[str], cache: Path) -> float:
    """Wall time of a command."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "rad_jax", *arguments],
        env=env | {"XDG_CACHE_HOME": str(cache)},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


def command(case: str, folder: Path) -> list[str]:
    """An inpainting, and the files it is of."""
    config = load_config(f"configs/{case}.py", []).model
    write_model(folder / "model", random_model(config), {})
    size = config.image_size
    image = np.full((size, size, config.in_channels), 99, np.uint8)
    mask = np.zeros((size, size, 1), np.uint8)
    mask[size // 4 : size // 2] = 255
    save_png(image, folder / "image.png")
    save_png(mask, folder / "mask.png")
    flags = {
        name: str(folder / file)
        for name, file in (
            ("model", "model"),
            ("image", "image.png"),
            ("mask", "mask.png"),
            ("output", "filled.png"),
        )
    }
    flags["steps"] = str(STEPS)
    return ["inpaint", *(f"--{name}={value}" for name, value in flags.items())]


def measure(case: str, rounds: int) -> dict[str, Any]:
    """Seconds by way, medians."""
    taken: dict[str, list[float]] = {"nothing": [], "first": [], "again": []}
    with tempfile.TemporaryDirectory() as folder:
        arguments = command(case, Path(folder))
        for number in range(rounds):
            cache = Path(folder) / f"cache{number}"
            taken["nothing"].append(seconds_of(["--version"], cache))
            taken["first"].append(seconds_of(arguments, cache))
            taken["again"].append(seconds_of(arguments, cache))
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def main() -> None:
    """Measures, prints and writes."""
    backend = jax.default_backend()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES[backend])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    record: dict[str, Any] = {"measured": measured(), "steps": STEPS, "rows": []}
    for case in args.cases:
        row = {"case": case, "seconds": measure(case, args.rounds)}
        record["rows"].append(row)
        print(row)
        store(args.output, record)


if __name__ == "__main__":
    main()
