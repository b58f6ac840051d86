"""RAD by LoRA beside RAD trained in full, from the same plain ADM of digits.

Trains five models by the configs and asks the demo's classifier about each; a run that
was stopped goes on. The plain ADM, which has never seen a hole, stands beside them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax

from benchmarks.measured import measured, store
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.config.experiment import Experiment
from rad_jax.config.file import load_config
from rad_jax.evaluate.demo import NUM_SAMPLES, STEPS, measure
from rad_jax.models.lora import adapted_params, partition
from rad_jax.models.network import abstract_params
from rad_jax.prepare.command import prepare
from rad_jax.runtime.sharding import use_cpu_cores
from rad_jax.train.loop import train
from rad_jax.train.stop import stop_on_signals

RUNS = {
    "adm": ("plain ADM, not fine-tuned", "digits_adm", ()),
    "lora": ("RAD, LoRA", "digits_lora", ("lora.rank=4", "lora.alpha=4.0")),
    "lora16": ("RAD, LoRA", "digits_lora", ()),
    "full": ("RAD, all parameters, from the ADM", "digits_lora", ("lora.rank=0",)),
    "scratch": (
        "RAD, all parameters, from scratch",
        "digits_lora",
        ("lora.rank=0", "pretrained="),
    ),
}


def experiment_of(name: str, workdir: Path) -> Experiment:
    """The experiment of a run."""
    _, config, changes = RUNS[name]
    changes = (
        f"data.data_dir={workdir / 'data'}",
        *((f"pretrained={workdir / 'adm'}",) if name != "adm" else ()),
        *changes,
    )
    overrides = [f"--config.{change}" for change in changes]
    return load_config(f"configs/{config}.py", overrides)


def sizes(experiment: Experiment) -> dict[str, int]:
    """Numbers that train, and numbers of the network."""
    config, lora = experiment.model, experiment.lora
    trainable, _ = partition(config, lora, adapted_params(config, lora))
    whole = abstract_params(config)
    return {
        "trainable": sum(leaf.size for leaf in jax.tree.leaves(trainable)),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(whole)),
    }


def main() -> None:
    """Trains, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/study"))
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    use_cpu_cores()
    where = measured()
    prepare("digits", args.workdir / "data")
    results: dict[str, Any] = {}
    for name, (text, config, changes) in RUNS.items():
        experiment = experiment_of(name, args.workdir)
        with stop_on_signals() as stop:
            train(experiment, args.workdir / name, stop)
        if stop:
            print("stopped; rerun the same command to resume")
            return
        known = args.workdir / f"{name}.json"  # measured by an earlier call
        if known.exists():
            masks = json.loads(known.read_text())
        else:
            masks, _ = measure(
                load_diffusion(args.workdir / name), args.workdir / "data"
            )
            known.write_text(json.dumps(masks))
        results[name] = {
            "name": text,
            "config": f"configs/{config}.py",
            "overrides": [c for c in changes if c != "pretrained="],
            "lora_rank": experiment.lora.rank,
            "steps": experiment.train.num_steps,
            **sizes(experiment),
            "masks": masks,
        }
        accuracies = [
            f"{kind} {x['accuracy_inpainted']:.3f}" for kind, x in masks.items()
        ]
        print(f"{name}: {text}: {', '.join(accuracies)}")
    store(
        args.output,
        {
            "measured": where,
            "runs": results,
            "protocol": f"{NUM_SAMPLES} samples per held-out digit at {STEPS} steps",
        },
    )


if __name__ == "__main__":
    main()
