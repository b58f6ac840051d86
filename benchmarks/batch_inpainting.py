"""Pictures per second of `rad-jax inpaint` beside decoding and encoding alone.

A stand-in for a network takes 5 ms an image and no core. The command fills a folder of
256x256 PNG files with it; alone, Pillow reads the same files and masks, and writes as
many, in as many threads or processes as there are cores: the better of the two is what
the cores can do. In turns, with the command of an older checkout, if one is given:
  git worktree add runs/before d9c60e2
  python benchmarks/batch_inpainting.py --before runs/before
"""

import argparse
import concurrent.futures
import functools
import io
import json
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.inpainting import random_model
from benchmarks.measured import measured, store
from benchmarks.photographs import squares
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.config.file import load_config

SIZE = 256
MILLISECONDS = 5
ROOT = Path(__file__).parents[1]
CORES = len(os.sched_getaffinity(0))
SMALL = (
    "model.model_channels=32",
    "model.channel_mult=(1,1)",
    "model.num_head_channels=32",
    "model.attention_resolutions=()",
)
"""Of the FFHQ-256 network, which only says what size pictures are."""


def make_files(folder: Path, count: int) -> None:
    """A model, and squares of scikit-learn's two photographs with holes."""
    overrides = [f"--config.{change}" for change in SMALL]
    config = load_config(str(ROOT / "configs/ffhq256.py"), overrides).model
    write_model(folder / "model", random_model(config), {})
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    for i, square in enumerate(squares(count, SIZE, rng)):
        square.save(folder / "images" / f"{i}.png")
        mask = np.zeros((SIZE, SIZE), np.uint8)
        y, x = rng.integers(SIZE // 2, size=2)
        mask[y : y + SIZE // 2, x : x + SIZE // 2] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")


def decode_and_encode(folder: Path, output: Path, name: str) -> None:
    """A picture and its mask are read, and a picture is written."""
    with Image.open(folder / "images" / name) as file:
        pixels = np.asarray(file.convert("RGB"))
    with Image.open(folder / "masks" / name) as file:
        np.asarray(file.convert("L"))
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "png")
    (output / name).write_bytes(encoded.getvalue())


def alone(folder: Path, output: Path, pool: concurrent.futures.Executor) -> float:
    """Pictures per second of decoding and encoding."""
    output.mkdir()
    names = sorted(os.listdir(folder / "images"))
    work = functools.partial(decode_and_encode, folder, output)
    start = time.perf_counter()
    for _ in pool.map(work, names, chunksize=16):
        pass
    return len(names) / (time.perf_counter() - start)


def command(folder: Path, output: Path, code: Path, count: int) -> dict[str, Any]:
    """What the command of a checkout took, without the imports."""
    flags = {"model": "model", "image": "images", "mask": "masks"}
    arguments = [f"--{flag}={folder / name}" for flag, name in flags.items()]
    script = str(Path(__file__).with_name("stand_in_command.py"))
    given = [script, str(MILLISECONDS), str(time.time()), "inpaint", *arguments]
    done = subprocess.run(
        [sys.executable, *given, f"--output={output}", "--batch_size=16"],
        env=os.environ | {"PYTHONPATH": str(code)},
        check=True,
        capture_output=True,
        text=True,
    )
    *said, last = done.stdout.splitlines()
    record = json.loads(last)
    idle = re.search(r"idled (\d+)%", "\n".join(said))
    return record | {
        "rate": count / record["seconds"],
        "idle": int(idle[1]) / 100 if idle else None,
    }


def mean_bytes(folder: Path) -> float:
    """Of a PNG file."""
    return statistics.mean(path.stat().st_size for path in folder.glob("*.png"))


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="an older checkout")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results/batch_inpainting.json")
    )
    args = parser.parse_args()
    where = measured()
    codes = {"command": ROOT}
    if args.before:
        codes["before"] = args.before.resolve()
    rates: dict[str, list[float]] = {}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_files(folder, args.images)
        context = multiprocessing.get_context("spawn")
        pools = {
            "threads": concurrent.futures.ThreadPoolExecutor(CORES),
            "processes": concurrent.futures.ProcessPoolExecutor(CORES, context),
        }
        for pool in pools.values():  # starts them
            list(pool.map(time.sleep, [0.5] * CORES))
        output = folder / "filled"
        for _ in range(args.rounds):
            for name, pool in pools.items():
                rates.setdefault(name, []).append(alone(folder, output, pool))
                shutil.rmtree(output)
            for name, code in codes.items():
                runs[name].append(command(folder, output, code, args.images))
                rates.setdefault(name, []).append(runs[name][-1]["rate"])
                filled = mean_bytes(output)
                assert len(list(output.glob("*.png"))) == args.images
                shutil.rmtree(output)
            print({name: round(of[-1], 1) for name, of in rates.items()}, flush=True)
        sizes = {name: mean_bytes(folder / name) for name in ("images", "masks")}
        for pool in pools.values():
            pool.shutdown()
    best = max(pools, key=lambda name: statistics.median(rates[name]))
    result = {
        "measured": where,
        "load_average_1min_after": os.getloadavg()[0],
        "images": args.images,
        "mean_bytes": sizes | {"results": filled},
        "milliseconds_of_the_network": MILLISECONDS,
        "cores": CORES,
        "images_per_second": {
            name: statistics.median(of) for name, of in rates.items()
        },
        "better_alone": best,
        "share_of_alone": {
            name: statistics.median(
                mine / theirs
                for mine, theirs in zip(rates[name], rates[best], strict=True)
            )
            for name in codes
        },
        "cpu_seconds_per_image": {
            name: statistics.median(run["cpu_seconds"] for run in of) / args.images
            for name, of in runs.items()
        },
        "idle_share": statistics.median(run["idle"] for run in runs["command"]),
    }
    print(json.dumps(result, indent=2))
    store(args.output, result)


if __name__ == "__main__":
    main()
