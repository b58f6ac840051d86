"""What programs need of chips that are not here, by the compiler; nothing runs.

Filling (100 steps) and training of the paper's networks in bfloat16, as they are built,
and with one thing computed another way. What was compiled is kept: a row that is there
is not compiled again. In an environment with the chip's compiler (requirements/cuda.txt
for GPUs, requirements-tpu.txt for TPUs):
  python benchmarks/chip_programs.py --topology h100
  python benchmarks/chip_programs.py --topology h100 --changes all --batches 16
"""

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import alternatives
from benchmarks.measured import measured, store
from rad_jax.checkpoints.model import Model
from rad_jax.chips.compiled import Needs
from rad_jax.chips.host import set_up
from rad_jax.chips.slices import Slice, find_slice
from rad_jax.chips.table import peak_flops
from rad_jax.chips.work import Part
from rad_jax.config.experiment import Experiment
from rad_jax.config.file import load_config
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.inference import compiled
from rad_jax.inference.for_chips import Batch, compile_fill, fill_flops
from rad_jax.models.network import abstract_params
from rad_jax.runtime.sharding import abstract_mesh
from rad_jax.train.for_chips import compile_step
from rad_jax.train.plan import step_flops

BUILT, BEFORE = "as it is built", "all of these together"
STEPS = 100


def rounded_in_steps() -> contextlib.AbstractContextManager[Any]:
    """Parameters are rounded in each step of the loop."""
    way = lambda _: lambda params: params  # noqa: E731
    return mock.patch.object(compiled, "make_rounding", way)


FILLING: dict[str, alternatives.Patch] = {
    "parameters rounded in every step": rounded_in_steps,
    "group norm in three passes": alternatives.TWO_PASSES,
    "skip connections concatenated": alternatives.CONCATENATED,
    "upsampling by four convolutions": alternatives.FOUR_CONVOLUTIONS,
    "pooling by a mean over axes": alternatives.pooling_by_means,
}
TRAINING: dict[str, alternatives.Patch] = {
    "adapters beside the kernels": alternatives.adapters_beside,
    "gradients of maps in float32": alternatives.float32_gradients,
}
TRIED: dict[str, alternatives.Patch] = {
    "nearest upsampling of shortcuts among channels": alternatives.LANES,
    "the last convolution in three passes": alternatives.THREE_PASSES,
}
"""What did not pay, or not everywhere."""


@contextlib.contextmanager
def before(changes: dict[str, alternatives.Patch]) -> Iterator[None]:
    """All of some changes."""
    with contextlib.ExitStack() as patches:
        for change in changes.values():
            patches.enter_context(change())
        yield


def changes_of(program: str) -> dict[str, alternatives.Patch]:
    """By name what can be changed, the program itself first."""
    old = FILLING | (TRAINING if program == "train" else {})
    if program == "train":  # its parameters are not rounded before
        del old["parameters rounded in every step"]
    first: dict[str, alternatives.Patch] = {BUILT: contextlib.nullcontext}
    return first | old | {BEFORE: lambda: before(old)} | TRIED


def experiment_of(config: str, batch: int) -> Experiment:
    """The paper's, in bfloat16."""
    changes = ("model.dtype=bfloat16", f"train.batch_size={batch}")
    return load_config(f"configs/{config}.py", [f"--config.{x}" for x in changes])


def compile_program(
    program: str, where: Slice, experiment: Experiment
) -> tuple[Needs, float]:
    """Needs of a device, and the operations of its part of a step."""
    batch = experiment.train.batch_size
    if program == "train":
        mesh = abstract_mesh(where.devices, experiment.train.fsdp)
        _, needs = compile_step(experiment, where)
        return needs, step_flops(experiment, mesh) / where.devices
    config = experiment.model
    model = Model(config, experiment.schedule, "eps", abstract_params(config))
    filled = Batch(batch, (config.image_size, config.image_size))
    options = SamplingOptions(steps=STEPS)
    compiled.compiled_fill.cache_clear()
    devices, needs = compile_fill(model, options, filled, where)
    return needs, fill_flops(model, options, filled) / devices / STEPS


def of_a_step(program: str, parts: list[Part]) -> dict[str, float]:
    """Costs of one: of filling a round of the longest loop, of training everything."""
    outside, *loops = parts
    if program == "fill":
        taken = [(1, max(loops, key=lambda part: (part.rounds or 1) * part.main))]
    else:
        taken = [(1, outside), *((part.rounds or 1, part) for part in loops)]
    names = ("main", "cycles", "compute", "traffic", "one_by_one")
    return {
        name: float(sum(rounds * getattr(part, name) for rounds, part in taken))
        for name in names
    }


def row_of(
    program: str, config: str, batch: int, topology: str, change: str
) -> dict[str, Any]:
    """Compiles one."""
    where, experiment = find_slice(topology), experiment_of(config, batch)
    with changes_of(program)[change]():
        needs, flops = compile_program(program, where, experiment)
    step = of_a_step(program, needs.parts)
    roof = max(step["compute"], step["traffic"])  # a TPU reads ahead
    if where.platform == "cuda":  # a GPU does one kernel after the other
        roof = step["one_by_one"]
    peak = peak_flops(where.chip, experiment.model.dtype)
    assert peak is not None  # of every chip that can be named
    clock = where.chip.clock
    return {
        "topology": topology,
        "program": program,
        "config": config,
        "batch": batch,
        "change": change,
        "devices": where.devices,
        "arguments": needs.arguments,
        "temporaries": needs.temporaries,
        "total": needs.total,
        "collectives": [x._asdict() for x in needs.collectives],
        "flops_of_the_network": flops,
        **{f"step_{name}": value for name, value in step.items()},
        "roofline_seconds": roof,
        "cycles_seconds": step["cycles"] / clock if clock and step["cycles"] else None,
        "mfu_at_most": flops / peak / roof,
        "seconds_to_compile": needs.seconds,
    }


def main() -> None:
    """Compiles, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topology", default="h100")
    parser.add_argument("--programs", nargs="+", default=("fill", "train"))
    parser.add_argument("--configs", nargs="+", default=("ffhq256",))
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 16))
    parser.add_argument("--changes", nargs="+", default=(BUILT,), help="or all")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    set_up()
    file = f"chip_programs_{args.topology.replace(':', '_')}.json"
    output = args.output or Path("docs/results") / file
    rows = json.loads(output.read_text())["rows"] if output.exists() else []
    key = ("program", "config", "batch", "change")
    done = {tuple(row[x] for x in key) for row in rows}
    for program in args.programs:
        changes = changes_of(program) if "all" in args.changes else args.changes
        for config in args.configs:
            for batch in args.batches:
                for change in changes:
                    wanted = (program, config, batch, change)
                    if wanted in done:
                        continue
                    where = measured()
                    row = row_of(program, config, batch, args.topology, change)
                    rows.append(row | {"measured": where})
                    print(json.dumps(row), flush=True)
                    store(output, {"rows": rows})


if __name__ == "__main__":
    main()
