"""Memory of compiled training steps beside what `train.plan` expects, on one GPU.

Nothing runs. What was compiled is kept; what the plan expects is worked out anew. In an
environment with the compiler (requirements/cuda.txt):
  python benchmarks/train_memory.py
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.measured import measured, store
from rad_jax.chips.compiled import TooLarge, compile_for
from rad_jax.chips.host import set_up
from rad_jax.chips.slices import find_slice
from rad_jax.config.experiment import Experiment
from rad_jax.config.file import load_config
from rad_jax.runtime.sharding import make_mesh
from rad_jax.train.plan import step_shapes
from rad_jax.train.step import make_train_step

TOPOLOGY = "h100"
CONFIGS = ("ffhq256", "imagenet256", "lsun_bedroom256")
BATCHES = (1, 4, 16, 64)


def experiment_of(row: dict[str, Any]) -> Experiment:
    """What a row is of."""
    changes = (
        f"train.batch_size={row['batch']}",
        f"model.dtype={row['dtype']}",
        f"model.use_remat={row['use_remat']}",
    )
    overrides = [f"--config.{change}" for change in changes]
    return load_config(f"configs/{row['config']}.py", overrides)


def compiled_bytes(experiment: Experiment) -> dict[str, int]:
    """Arguments, temporaries and all that a step needs, in bytes."""

    def build(devices):
        mesh = make_mesh(1, devices)
        return make_train_step(experiment, mesh), step_shapes(experiment, mesh)

    try:
        _, needs = compile_for(find_slice(TOPOLOGY), build)
    except TooLarge as error:
        return {"total": round(error.need or 0)}
    return {
        "arguments": needs.arguments,
        "temporaries": needs.temporaries,
        "total": needs.total,
    }


def main() -> None:
    """Compiles, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--dtypes", nargs="+", default=("bfloat16",))
    parser.add_argument("--remat", type=int, nargs="+", default=(0, 1))
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results/train_memory.json")
    )
    args = parser.parse_args()
    set_up()
    rows = json.loads(args.output.read_text())["rows"] if args.output.exists() else []
    cases = [
        {"config": config, "batch": batch, "dtype": dtype, "use_remat": bool(remat)}
        for dtype in args.dtypes
        for remat in args.remat
        for batch in args.batches
        for config in args.configs
    ]
    for case in cases:
        if any(case.items() <= row.items() for row in rows):
            continue
        where = measured()
        row = case | {"topology": TOPOLOGY, **compiled_bytes(experiment_of(case))}
        print(json.dumps(row), flush=True)
        rows.append(row | {"measured": where})
        store(args.output, {"rows": rows})


if __name__ == "__main__":
    main()
