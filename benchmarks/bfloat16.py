"""What computing in bfloat16 changes: the predicted noise, and an inpainting.

Convolutions and attention compute in bfloat16, the rest in float32: `UNetConfig.dtype`.
One network is a trained RAD of digits (from benchmarks/digits_lora.py), the other has
the FFHQ-256 architecture and the weights of the golden numbers, which mean nothing.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measured import measured, store
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.convert import adm
from rad_jax.convert.adm import adm_to_params
from rad_jax.convert.presets import PRESETS
from rad_jax.data.splits import load_split
from rad_jax.diffusion.schedule import make_schedule
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.files.pixel_ranges import to_float
from rad_jax.inference.inpaint import fill
from rad_jax.masks.evaluation import evaluation_mask
from rad_jax.models.apply import Params, make_apply
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import abstract_params
from rad_jax.models.noise_embedding import NoiseLevels, membership
from rad_jax.weight_files import name_table
from tests.models.adm_files import golden_weights

TIMES = (1, 100, 250, 500, 750, 1000)
STEPS = 100


def golden_params(config: UNetConfig) -> Params:
    """Weights by a rule from their names, as the golden numbers have them."""
    shapes = name_table.file_shapes(adm.entries(config), abstract_params(config))
    return adm_to_params(config, golden_weights(shapes))


def pair(model: Model) -> dict[str, Model]:
    """The model in both types of numbers."""
    return {
        dtype: model._replace(config=dataclasses.replace(model.config, dtype=dtype))
        for dtype in ("float32", "bfloat16")
    }


def noise_error(
    model: Model, images: np.ndarray, masks: np.ndarray
) -> dict[str, float]:
    """Root mean square error over that of the output, at times of phase 1."""
    levels = make_schedule(model.schedule).signal.hole
    key = jax.random.key(0)
    noise = jax.random.normal(key, images.shape)
    weights = membership(jnp.asarray(masks), model.config.num_resolutions)
    errors = {}
    for t in TIMES:
        hole = (
            jnp.exp(0.5 * levels[t]) * images + jnp.sqrt(-jnp.expm1(levels[t])) * noise
        )
        x = jnp.where(masks[..., None] > 0, hole, images)
        timesteps = jnp.broadcast_to(jnp.float32([-1, t - 1]), (len(images), 2))
        outputs = [
            np.asarray(
                jax.jit(make_apply(each.config))(
                    each.params, x, NoiseLevels(timesteps, weights)
                )
            )[..., : model.channels]
            for each in pair(model).values()
        ]
        error = np.sqrt(np.mean((outputs[1] - outputs[0]) ** 2))
        errors[str(t)] = float(error / np.sqrt(np.mean(outputs[0] ** 2)))
    return errors


def inpainting_error(
    model: Model, images: np.ndarray, masks: np.ndarray
) -> dict[str, float]:
    """Difference of two inpaintings with the same noise, in grey levels of 255."""
    keys = jax.random.split(jax.random.key(1), len(images))
    filled = [
        np.asarray(
            fill(each, jnp.asarray(images), jnp.asarray(masks), keys, steps=STEPS)
        )
        for each in pair(model).values()
    ]
    hole = np.broadcast_to(masks[..., None] > 0, images.shape)
    difference = np.abs(filled[1] - filled[0])[hole] * 127.5
    return {
        "mean": float(difference.mean()),
        "median": float(np.median(difference)),
        "percentile_99": float(np.percentile(difference, 99)),
        "known_pixels_changed": int(np.sum((filled[1] != images)[~hole])),
    }


def digits(folder: Path) -> dict[str, Any]:
    """The trained network, on held-out digits under half masks of each kind."""
    model = load_diffusion(folder / "lora")
    images, _ = load_split("digits", folder / "data", "test[:96]", 1)
    kinds = ("box", "extreme", "perlin")
    masks = [
        evaluation_mask(kinds[i % 3], 16, seed=0, index=i).astype(np.float32)
        for i in range(len(images))
    ]
    pixels, masks = to_float(images), np.stack(masks)
    return {
        "relative_error_of_noise": noise_error(model, pixels, masks),
        f"inpainting_{STEPS}_steps": inpainting_error(model, pixels, masks),
    }


def ffhq() -> dict[str, Any]:
    """The architecture of FFHQ-256 on a 128x128 image."""
    config = PRESETS["ffhq256"].config
    model = Model(config, ScheduleConfig(), "eps", golden_params(config))
    image = np.random.default_rng(0).uniform(-1, 1, (1, 128, 128, 3)).astype(np.float32)
    mask = evaluation_mask("box", 128, seed=0, index=0).astype(np.float32)[None]
    return {"relative_error_of_noise": noise_error(model, image, mask)}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path("runs/study"))
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    record = {
        "measured": measured(),
        "digits": digits(args.study),
        "ffhq256_architecture": ffhq(),
    }
    print(json.dumps(record, indent=2))
    store(args.output, record)


if __name__ == "__main__":
    main()
