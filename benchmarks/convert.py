"""Seconds and memory that converting an ADM checkpoint takes.

Makes a .pt file of a published architecture with numbers of no meaning, converts it to
a model folder in a process of its own, and compares that one's peak memory with the
file's size.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measured import measured, store
from rad_jax.convert import adm
from rad_jax.convert.presets import PRESETS
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from rad_jax.weight_files.write import write_torch

CONVERT = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
from rad_jax.convert.command import convert
imported = time.perf_counter()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{call}
print(json.dumps({{
    "seconds": time.perf_counter() - imported,
    "import_seconds": imported - start,
    "import_peak_mib": before / 1024,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}}))
"""


def write_file(path: Path, preset: str) -> int:
    """Writes the checkpoint; returns the number of its parameters."""
    config = PRESETS[preset].config
    shapes = name_table.file_shapes(adm.entries(config), abstract_params(config))
    sizes = {key: int(np.prod(shape)) for key, shape in shapes.items()}
    # All arrays are views of one: what they hold changes neither time nor memory.
    generator = np.random.default_rng(0)
    numbers = generator.standard_normal(max(sizes.values()), dtype=np.float32)
    state = {key: numbers[: sizes[key]].reshape(shapes[key]) for key in shapes}
    write_torch(path, state)
    return sum(sizes.values())


def measure(call: str) -> dict[str, float]:
    """Runs a conversion in a process of its own (Linux: ru_maxrss is in KiB)."""
    done = subprocess.run(
        [sys.executable, "-c", CONVERT.format(call=call)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--preset", choices=PRESETS, default="imagenet256_cond")
    parser.add_argument("--folder", type=Path, help="for the files; has space")
    args = parser.parse_args()
    where = measured()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        file, model, back = (Path(folder) / name for name in ("a.pt", "m", "b.pt"))
        parameters = write_file(file, args.preset)
        size = file.stat().st_size / 2**20
        calls = {
            "file_to_folder": f"convert(Path({str(file)!r}), Path({str(model)!r}), "
            f"preset={args.preset!r})",
            "folder_to_file": f"convert(Path({str(model)!r}), Path({str(back)!r}), "
            "to='torch')",
        }
        results = {name: measure(call) for name, call in calls.items()}
        identical = subprocess.run(["cmp", file, back], check=False).returncode == 0
    for name, result in results.items():
        result["peak_over_file"] = result["peak_mib"] / size
        print(
            f"{name}: {result['seconds']:.1f} s, peak {result['peak_mib']:.0f} MiB, "
            f"{result['peak_over_file']:.2f} times the file"
        )
    print(f"what comes back is {'the file' if identical else 'ANOTHER FILE'}")
    record = {
        "measured": where,
        **results,
        "identical": identical,
        "preset": args.preset,
        "parameters": parameters,
        "file_mib": size,
    }
    store(args.output, record)


if __name__ == "__main__":
    main()
