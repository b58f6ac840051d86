"""What metrics take of an evaluation: `rad-jax evaluate`'s own seconds.

LPIPS, FID and what needs no network, of random images; the weights of all networks are
random, as their time does not depend on them. The first kind of masks compiles.
"""

import argparse
import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from benchmarks.inpainting import random_model
from benchmarks.measured import measured, store
from rad_jax.config.file import load_config
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.evaluate.evaluate import evaluate
from rad_jax.evaluate.settings import Evaluation
from rad_jax.files.pictures import save_png
from rad_jax.inference.file_options import FileOptions
from rad_jax.metrics.weights import FILES, WeightFile
from rad_jax.runtime.sharding import use_cpu_cores
from tests.metrics import metric_files

CASES = {"cpu": ("photos64",), "gpu": ("photos64", "ffhq256")}
IMAGES = {"cpu": 16, "gpu": 256}
MASKS = ("box", "extreme")


def publish(folder: Path) -> dict[str, WeightFile]:
    """Files of weights, as those that are published."""
    states = {"inception": metric_files.inception()}
    for net in ("alex", "vgg"):
        states |= {
            net: metric_files.backbone(net),
            f"{net}_heads": metric_files.heads(net),
        }
    return {kind: metric_files.publish(folder, state) for kind, state in states.items()}


def measure(case: str, count: int, steps: int) -> dict[str, Any]:
    """Seconds per image by kind of masks: of the filling, and of all metrics."""
    config = load_config(f"configs/{case}.py", []).model
    if jax.default_backend() == "cpu":
        config = dataclasses.replace(config, dtype="float32")
    size = config.image_size
    noise = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(mock.patch.dict(FILES, publish(folder)))
        for i, image in enumerate(noise):
            save_png(image, folder / "images" / f"{i:05d}.png")
        settings = Evaluation(
            "folder",
            folder / "images",
            "all",
            MASKS,
            num_images=count,
            weights=folder,
            sampling=SamplingOptions(steps=steps),
            files=FileOptions(batch_size=count // 2),
        )
        record = evaluate(random_model(config), settings, folder / "results")
    kinds = record["masks"].items()
    names = ("seconds_per_image", "scoring_seconds_per_image")
    return {kind: {name: scores[name] for name in names} for kind, scores in kinds}


def main() -> None:
    """Measures, prints and writes."""
    use_cpu_cores()
    backend = jax.default_backend()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES[backend])
    parser.add_argument("--images", type=int, default=IMAGES[backend])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    record: dict[str, Any] = {
        "measured": measured(),
        "images": args.images,
        "steps": args.steps,
        "rows": [],
    }
    for case in args.cases:
        row = {"case": case, "masks": measure(case, args.images, args.steps)}
        record["rows"].append(row)
        print(row)
        store(args.output, record)


if __name__ == "__main__":
    main()
