"""Training by LoRA in bfloat16 with adapters merged in every step, and beside.

A small update could be lost where a kernel is rounded to bfloat16 with it. So RAD is
trained on digits from one plain ADM, both ways from three seeds, and the held-out
digits are filled. What was done is kept.
"""

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Else XLA's CPU compiler leaves out what rounding it can, and there is nothing to see.
# It is read when JAX is imported.
os.environ["XLA_FLAGS"] = "--xla_allow_excess_precision=false"

from benchmarks.ablation import SAMPLING, pretrain
from benchmarks.alternatives import adapters_beside, float32_gradients
from benchmarks.measured import measured, store
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.config.file import load_config
from rad_jax.evaluate.evaluate import evaluate
from rad_jax.evaluate.settings import Evaluation
from rad_jax.inference.file_options import FileOptions
from rad_jax.runtime.sharding import use_cpu_cores
from rad_jax.train.loop import train
from rad_jax.train.stop import stop_on_signals

MASKS = ("box", "extreme")
SCORES = ("accuracy", "psnr_hole", "frechet_classifier")
SEEDS = (0, 1, 2)
STEPS = 400


@contextlib.contextmanager
def beside() -> Iterator[None]:
    """Adapters beside the frozen layers, gradients of maps in float32."""
    with adapters_beside(), float32_gradients():
        yield


WAYS: dict[str, Callable[[], Any]] = {
    "merged": contextlib.nullcontext,
    "beside": beside,
}


def run(way: str, seed: int, workdir: Path) -> dict[str, Any] | None:
    """Losses and scores of a run; None if it was stopped."""
    data = workdir / "data"
    folder = workdir / f"{way}_{seed}"
    changes = (
        f"data.data_dir={data}",
        f"pretrained={workdir / 'adm'}",
        f"seed={seed}",
        "model.dtype=bfloat16",
        f"train.num_steps={STEPS}",
        "train.sample_every=0",
    )
    overrides = [f"--config.{change}" for change in changes]
    with stop_on_signals() as stop, WAYS[way]():
        train(load_config("configs/digits_lora.py", overrides), folder, stop)
    if stop:
        return None
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    settings = Evaluation(
        "digits",
        data,
        "test",
        masks=MASKS,
        num_images=297,
        sampling=SAMPLING,
        files=FileOptions(batch_size=99),
    )
    model = load_diffusion(folder, dtype="float32")
    masks = evaluate(model, settings, folder / "evaluation", name=way)["masks"]

    def score(value: Any) -> float:
        return value["mean"] if isinstance(value, dict) else value

    return {
        "way": way,
        "seed": seed,
        "loss": float(np.mean(losses[len(losses) // 2 :])),
        "masks": {
            kind: {name: score(found[name]) for name in SCORES}
            for kind, found in masks.items()
        },
    }


def main() -> None:
    """Trains, evaluates, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/merged_adapters"))
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results/merged_adapters.json")
    )
    args = parser.parse_args()
    use_cpu_cores()
    record: dict[str, Any] = {"measured": measured(), "steps": STEPS, "rows": []}
    if args.output.exists():
        record = json.loads(args.output.read_text())
    if not pretrain(args.workdir):
        return
    done = {(row["way"], row["seed"]) for row in record["rows"]}
    for seed in SEEDS:
        for way in WAYS:
            if (way, seed) in done:
                continue
            row = run(way, seed, args.workdir)
            if row is None:
                print("stopped; run it again to go on")
                return
            record["rows"].append(row)
            print(json.dumps(row), flush=True)
            store(args.output, record)


if __name__ == "__main__":
    main()
