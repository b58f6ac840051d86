"""What fast ways to compute change: pixels with the same noise, and the demo's metrics.

A trained RAD of digits fills the holes of held-out ones by its two noise levels in
float32, in bfloat16, and by an embedding of every pixel (the paper's way). Repeated
with other noise, the metrics show what chance does.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measured import measured, store
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.data.splits import load_split
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.evaluate.demo import KINDS, features, hole_masks, new_classifier, rms
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.compiled import compiled_fill
from rad_jax.inference.inpaint import prepare_fill
from rad_jax.inference.samplers import default_sampler
from rad_jax.runtime.sharding import use_cpu_cores

STEPS, SEEDS, COUNT = 25, 3, 99
BUILT = "float32"
BFLOAT16 = "bfloat16"
PIXELS = "float32, every pixel embedded"

Fill = Callable[[np.ndarray, np.ndarray, jax.Array], np.ndarray]


def fill_by(way: str, model: Model) -> Fill:
    """A function of images, masks and keys."""
    if way == BFLOAT16:
        config = dataclasses.replace(model.config, dtype="bfloat16")
        model = model._replace(config=config)

    prepare = prepare_fill(model, SamplingOptions(steps=STEPS))

    def fill(images, masks, keys):
        call = prepare(jnp.asarray(images), jnp.asarray(masks), keys)
        if way == PIXELS:
            sampler = default_sampler(model)
            run = compiled_fill(
                model.config, model.schedule, sampler, binary=False, tiled=False
            )
            call = call._replace(function=run)
        return np.asarray(call())

    return fill


def psnr(a: np.ndarray, b: np.ndarray, hole: np.ndarray) -> float:
    """Of the holes' pixels in dB, values in [-1, 1]."""
    error = np.mean((a - b)[hole] ** 2)
    return float(10 * np.log10(4 / max(error, 1e-20)))


def measure(model: Model, data_dir: Path) -> dict[str, Any]:
    """PSNR to what is built, and metrics of every way, kind of mask and seed."""
    train_images, train_labels = load_split("digits", data_dir, "train", 1)
    images, labels = load_split("digits", data_dir, f"test[:{COUNT}]", 1)
    classifier = new_classifier()
    classifier.fit(features(train_images), train_labels)
    ways = {way: fill_by(way, model) for way in (BUILT, BFLOAT16, PIXELS)}
    results: dict[str, Any] = {way: {} for way in ways}
    for kind in KINDS:
        masks = hole_masks(kind, images)
        hole = masks[..., None] > 0
        for seed in range(SEEDS):
            keys = jax.random.split(jax.random.key(seed), len(images))
            filled = {
                way: fill(to_float(images), masks, keys) for way, fill in ways.items()
            }
            for way, output in filled.items():
                pixels = to_bytes(output)
                read = classifier.predict(features(pixels))
                row = {
                    "accuracy": float(np.mean(read == labels)),
                    "hole_rmse": rms(pixels - images.astype(float), hole),
                    "psnr": psnr(output, filled[BUILT], hole),
                    "known_pixels_changed": int(np.sum((pixels != images) & ~hole)),
                }
                results[way].setdefault(kind, []).append(row)
        print(kind, {way: results[way][kind] for way in ways})
    return results


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path("runs/study"))
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    use_cpu_cores()
    where = measured()
    results = measure(load_diffusion(args.study / "full"), args.study / "data")
    store(
        args.output,
        {
            "measured": where,
            "ways": results,
            "protocol": f"{COUNT} held-out digits, {STEPS} steps, {SEEDS} seeds",
        },
    )


if __name__ == "__main__":
    main()
