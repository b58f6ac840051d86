"""Pictures larger than the model: strategies beside each other, and their cost.

Montages of held-out digits, at the scale that the network was trained at and enlarged,
with holes of three sizes. Then time and memory of a large photo by crops, beside as
many images of the network's own size, and of calls with previews beside calls without.
  python benchmarks/large_pictures.py --model runs/digits --data_dir data \
      --output docs/results/large_pictures.json --picture docs/large_pictures.png
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks.measured import measured, store
from rad_jax.checkpoints.model import AnyModel, Model, require_diffusion
from rad_jax.data.splits import load_split
from rad_jax.files.contact_sheet import contact_sheet, grey_holes
from rad_jax.files.pictures import save_png
from rad_jax.files.pixel_ranges import to_float
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.inpainter import Inpainter
from rad_jax.inference.regions import described, plan
from rad_jax.inference.sizes import sizes_of
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.metrics.image import rms_in_hole, seam, seam_ratio
from rad_jax.models.network import abstract_params
from rad_jax.runtime.sharding import use_cpu_cores

STRATEGIES = ("auto", "whole", "crop", "resize", "tile")
STEPS, COUNT, ROWS, COLUMNS = 10, 2, 4, 6
SCALES = (1, 2)
HOLES = {"small": 8, "medium": 20, "large": 48}
"""Sides of the square holes of a montage, in pixels of the network; in its middle."""

PHOTO, SIDES, TIMED_STEPS, REPEATS = (3000, 4000), (60, 150, 300), 5, 3


def montages(data_dir: Path, scale: int) -> np.ndarray:
    """Digits in rows and columns, each pixel `scale` times enlarged by bicubic."""
    digits, _ = load_split("digits", data_dir, "test", 1)
    size = digits.shape[1]
    out = []
    for i in range(COUNT):
        some = digits[np.arange(ROWS * COLUMNS) + i * ROWS * COLUMNS]
        grid = some.reshape(ROWS, COLUMNS, size, size).transpose(0, 2, 1, 3)
        picture = Image.fromarray(grid.reshape(ROWS * size, COLUMNS * size))
        large = (COLUMNS * size * scale, ROWS * size * scale)
        out.append(np.asarray(picture.resize(large, Image.Resampling.BICUBIC)))
    return np.stack(out)[..., None]


def hole_of(size: tuple[int, int], side: int) -> np.ndarray:
    """A square in the middle."""
    top, left = ((length - side) // 2 for length in size)
    hole = np.zeros(size, bool)
    hole[top : top + side, left : left + side] = True
    return hole


def compare(
    inpainter: Inpainter, data_dir: Path
) -> tuple[list[dict[str, Any]], list[list[np.ndarray]]]:
    """Error in the hole, seam and seconds of each strategy, and pictures of some."""
    rows, shown = [], []
    for scale in SCALES:
        images = montages(data_dir, scale)
        for name, side in HOLES.items():
            hole = hole_of(images.shape[1:3], side * scale)
            tiles = [images[0], grey_holes(images[:1], hole[None])[0]]
            for strategy in STRATEGIES:
                options = {"strategy": strategy, "batch_size": COUNT}
                inpainter(images, hole, steps=1, **options)  # compiles for all steps
                began = time.perf_counter()
                filled = inpainter(images, hole, steps=STEPS, **options)
                seconds = (time.perf_counter() - began) / len(images)
                tiles.append(filled[0])
                rows.append(
                    {
                        "pixels": scale,
                        "hole": name,
                        "strategy": strategy,
                        "seconds": seconds,
                        **scores(filled, images, hole),
                        "regions": said(inpainter.model, hole, strategy),
                    }
                )
                print(rows[-1])
            if scale == SCALES[-1]:
                shown.append(tiles)
    return rows, shown


def said(model: AnyModel, hole: np.ndarray, strategy: str) -> str:
    """What the strategy does, in words."""
    found = plan(hole, sizes_of(model), StrategyOptions(strategy))
    return described(found) or "whole"


def scores(filled: np.ndarray, images: np.ndarray, hole: np.ndarray) -> dict[str, Any]:
    """RMS error in the hole in [0, 1], the seam over the truth's, known pixels."""
    a, b = (jnp.asarray(to_float(x)) for x in (filled, images))
    masks = jnp.broadcast_to(jnp.asarray(hole, jnp.float32), a.shape[:3])
    sums = seam(a, b, masks)
    total = jax.tree.map(lambda x: x.sum(), sums)
    return {
        "hole_rmse": float(jax.vmap(rms_in_hole)(a, b, masks).mean()) / 2,
        "seam_ratio": float(seam_ratio(total)),
        "known_pixels_changed": int((filled != images)[:, ~hole].sum()),
    }


def random_model(model: Model) -> Model:
    """A network for 256x256 with random weights, small enough for two cores."""
    config = dataclasses.replace(
        model.config,
        image_size=256,
        in_channels=3,
        out_channels=3,
        channel_mult=(1, 1, 2, 2),
        attention_resolutions=(),
    )
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(random.normal(0, 0.02, x.shape), x.dtype),
        abstract_params(config),
    )
    return Model(config, model.schedule, model.parametrisation, params)


def alternating(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of calls, one after the other, again and again."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # compiles
    for _ in range(REPEATS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def photo_cost(inpainter: Inpainter) -> dict[str, Any]:
    """Seconds of a large photo with three holes, and of three images of native size."""
    random = np.random.default_rng(0)
    native = inpainter.model.config.image_size
    photo = random.integers(0, 256, (*PHOTO, 3), np.uint8)
    hole = np.zeros(PHOTO, bool)
    for i, side in enumerate(SIDES):
        top, left = 400 + 800 * i, 500 + 1100 * i
        hole[top : top + side, left : left + side] = True
    small = [
        photo[:native, :native],
        photo[-native:, :native],
        photo[:native, -native:],
    ]
    masks = [hole_of((native, native), native // 2)] * 3
    changed = []

    def large() -> None:
        filled = inpainter(photo, hole, steps=TIMED_STEPS)
        changed.append(int((filled != photo)[~hole].sum()))

    seconds = alternating(
        {"photo": large, "native": lambda: inpainter(small, masks, steps=TIMED_STEPS)}
    )
    return {
        "photo_seconds": seconds["photo"],
        "native_seconds": seconds["native"],
        "known_pixels_changed": max(changed),
        "regions": said(inpainter.model, hole, "auto"),
    }


def call_cost(inpainter: Inpainter, steps: int) -> dict[str, float]:
    """Seconds of a call with previews every 10 steps and without, of native size."""
    image, hole = native_image(inpainter.model)
    return alternating(
        {
            "plain": lambda: inpainter(image, hole, steps=steps),
            "on_step": lambda: inpainter(
                image, hole, steps=steps, on_step=lambda *_: None
            ),
        }
    )


def seconds_beside_fill(inpainter: Inpainter) -> float:
    """Median seconds of a call in which the model takes no time."""
    image, hole = native_image(inpainter.model)
    stub = Fills(lambda images, *_: images, lambda images, *_: images)
    with mock.patch.object(inpainter, "_fills", lambda _: stub):
        return alternating({"call": lambda: inpainter(image, hole)})["call"]


def native_image(model: AnyModel) -> tuple[np.ndarray, np.ndarray]:
    """Noise of the network's size, and a hole in its middle."""
    side = model.config.image_size
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (side, side, model.channels), np.uint8)
    return image, hole_of((side, side), side // 2)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="run of digits")
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--picture", type=Path, help="PNG file")
    args = parser.parse_args()
    use_cpu_cores()
    where = measured()
    inpainter = Inpainter.from_pretrained(args.model)
    rows, shown = compare(inpainter, args.data_dir)
    large = Inpainter(
        random_model(require_diffusion(inpainter.model, "random weights"))
    )
    photo = photo_cost(large)
    calls = {"16": call_cost(inpainter, 100), "256": call_cost(large, 20)}
    beside = seconds_beside_fill(inpainter)
    print(photo, calls, beside)
    store(
        args.output,
        {
            "measured": where,
            "strategies": rows,
            "photo": photo,
            "calls": calls,
            "seconds_beside_fill": beside,
            "protocol": f"{COUNT} montages of {ROWS}x{COLUMNS} held-out digits, "
            f"{STEPS} steps, one seed; the photo: {PHOTO[1]}x{PHOTO[0]}, holes of "
            f"{SIDES} pixels, {TIMED_STEPS} steps of a network for 256x256 with random "
            "weights",
        },
    )
    if args.picture:
        save_png(contact_sheet(shown, pad=4), args.picture)


if __name__ == "__main__":
    main()
