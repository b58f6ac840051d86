"""What a change of a program saves on a chip that is not here, by the compiler.

Compiles the filling of the FFHQ-256 network in bfloat16 with parameters that are
rounded once, before the loop, and with such that are rounded in it; nothing runs. In an
environment with the chip's compiler (requirements/cuda.txt for GPUs):
  python benchmarks/chip_programs.py --topology h100
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.measured import measured, store
from rad_jax.checkpoints.model import Model
from rad_jax.chips.compiled import Needs
from rad_jax.chips.host import set_up
from rad_jax.chips.slices import find_slice
from rad_jax.config import load_config
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.inference import compiled
from rad_jax.inference.for_chips import Batch, compile_fill
from rad_jax.models.unet import abstract_params

WAYS = ("once", "in every step")


def compile_way(topology: str, batch: int, way: str) -> Needs:
    """The program that fills binary holes."""
    experiment = load_config("configs/ffhq256.py", ["--config.model.dtype=bfloat16"])
    config = experiment.model
    model = Model(config, experiment.schedule, "eps", abstract_params(config))
    side = config.image_size
    rounding = compiled.make_rounding
    if way != "once":
        compiled.make_rounding = lambda _: lambda params: params
    compiled.compiled_fill.cache_clear()
    try:
        filled = Batch(batch, (side, side))
        return compile_fill(model, SamplingOptions(), filled, find_slice(topology))[1]
    finally:
        compiled.make_rounding = rounding


def main() -> None:
    """Compiles, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topology", default="h100")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 16))
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    set_up()
    output = args.output or Path(f"docs/results/chip_programs_{args.topology}.json")
    record: dict[str, Any] = {"measured": measured(), "rows": []}
    for batch in args.batches:
        for way in WAYS:
            needs = compile_way(args.topology, batch, way)
            row = {
                "batch": batch,
                "rounded": way,
                "arguments": needs.arguments,
                "temporaries": needs.temporaries,
                "main_memory_traffic": needs.main,
                "loops": needs.loops,
                "flops": needs.flops,
                "cycles": needs.cycles,
                "seconds_to_compile": needs.seconds,
            }
            record["rows"].append(row)
            print(json.dumps(row), flush=True)
            store(output, record)


if __name__ == "__main__":
    main()
