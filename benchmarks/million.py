"""A million small pictures by eight workers of this machine: the first one, and memory.

Once in Parquet tables, once as a million files of one folder. The network is a stand-in
that takes no time.
  python benchmarks/million.py
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from benchmarks.inpainting import random_model
from benchmarks.measured import measured, store
from benchmarks.stand_in_command import status_mib
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.config.file import load_config

ROOT = Path(__file__).parents[1]
TABLES = 64
DIFFERENT = 100
"""Pictures; the others have the same bytes and ids of their own."""
EVERY = 2.0
"""Seconds between looks at the workers' memory."""


def pictures() -> Iterator[tuple[bytes, bytes]]:
    """Small grey pictures and masks, as PNG."""
    rng = np.random.default_rng(0)
    for _ in range(DIFFERENT):
        mask = np.zeros((28, 28), np.uint8)
        y, x = rng.integers(14, size=2)
        mask[y : y + 14, x : x + 14] = 255
        noise = rng.integers(256, size=(4, 4), dtype=np.uint8).repeat(7, 0).repeat(7, 1)
        yield _png(noise), _png(mask)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def make_tables(folder: Path, count: int) -> list[str]:
    """Parquet tables; returns what says so to the command."""
    (folder / "tables").mkdir()
    images, masks = zip(*pictures(), strict=True)
    for number in range(TABLES):
        ids = range(number, count, TABLES)
        columns = {
            "id": [f"{i:07d}" for i in ids],
            "image": [images[i % DIFFERENT] for i in ids],
            "mask": [masks[i % DIFFERENT] for i in ids],
        }
        path = folder / "tables" / f"{number:02d}.parquet"
        parquet.write_table(pa.table(columns), path, row_group_size=1000)
    return [f"--image={folder / 'tables'}"]


def make_folder(folder: Path, count: int) -> list[str]:
    """The same as files in one folder; names of few files, to save the disk."""
    (folder / "files").mkdir()
    (folder / "different").mkdir()
    for i, (image, mask) in enumerate(pictures()):
        (folder / "different" / f"{i}.png").write_bytes(image)
        (folder / "mask.png").write_bytes(mask)
    for i in range(count):
        different = folder / "different" / f"{i % DIFFERENT}.png"
        os.link(different, folder / "files" / f"{i:07d}.png")
    return [f"--image={folder / 'files'}", f"--mask={folder / 'mask.png'}"]


FORMS = {"Parquet tables": make_tables, "a folder of files": make_folder}


def run(folder: Path, given: list[str], workers: int) -> dict[str, Any]:
    """All workers at once."""
    script = str(Path(__file__).with_name("stand_in_command.py"))
    output = folder / "filled"
    processes, logs = [], []
    start = time.time()
    for i in range(workers):
        shared = ["inpaint", f"--model={folder / 'model'}", *given]
        own = [f"--output={output}", f"--shard={i}/{workers}", "--batch_size=64"]
        logs.append(folder / f"{i}.log")
        with logs[-1].open("w") as log:
            command = [sys.executable, script, "0", str(time.time()), *shared, *own]
            env = os.environ | {"PYTHONPATH": str(ROOT)}
            processes.append(
                subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
            )
    seen: list[list[float]] = []
    while any(process.poll() is None for process in processes):
        time.sleep(EVERY)
        found = [status_mib(process.pid, "VmRSS") for process in processes]
        sizes = [x for x in found if x is not None]
        if len(sizes) == workers:
            seen.append(sizes)
    took = time.time() - start
    records = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
    early, late = (
        [max(sizes[i] for sizes in part) for i in range(workers)]
        for part in (seen[len(seen) // 8 : len(seen) // 4], seen[-len(seen) // 8 :])
    )
    return {
        "seconds": took,
        "codes": sorted({record["code"] for record in records}),
        "cpu_seconds": sum(record["cpu_seconds"] for record in records),
        "seconds_to_import": [record["seconds_to_import"] for record in records],
        "first_image_seconds": [record["first_image_seconds"] for record in records],
        "peak_mib": [record["peak_mib"] for record in records],
        "mib_in_the_second_eighth": early,
        "mib_in_the_last_eighth": late,
    }


def rows_of(output: Path) -> tuple[int, int]:
    """Rows of all manifests, and different ids among them that are ok."""
    ids: set[str] = set()
    rows = 0
    for path in (output / "manifest").rglob("*.parquet"):
        table = parquet.read_table(path, columns=["id", "status"])
        rows += table.num_rows
        ids.update(row["id"] for row in table.to_pylist() if row["status"] == "ok")
    return rows, len(ids)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results/million.json")
    )
    args = parser.parse_args()
    config = load_config(str(ROOT / "configs/digits_adm.py"), []).model
    done = json.loads(args.output.read_text()) if args.output.exists() else {}
    for form in args.forms:
        where = measured()
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_model(folder / "model", random_model(config), {})
            start = time.time()
            given = FORMS[form](folder, args.count)
            print(f"{form}: made in {time.time() - start:.0f} s", flush=True)
            record = run(folder, given, args.workers)
            rows, ids = rows_of(folder / "filled")
        record |= {"count": args.count, "rows": rows, "ids": ids}
        record["measured"] = where
        done[form] = record
        print(json.dumps(record), flush=True)
        store(args.output, done)


if __name__ == "__main__":
    main()
