"""Samplers and time grids at few steps: which is best for how many steps.

On Gaussian data the exact distance to the conditional distribution tells
(`exact_samplers`); on digits, a trained model fills holes, and the demo's classifier,
its errors and an energy score tell. `recommend` says what follows from both.
"""

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmarks.exact_samplers import SCHEDULE, oracle_error
from benchmarks.measured import measured, store
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.data.splits import load_split
from rad_jax.diffusion import sampling
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.evaluate.charts import Panel, Series, figure, save_figure
from rad_jax.evaluate.demo import (
    KINDS,
    diversity,
    features,
    hole_masks,
    new_classifier,
    rms,
)
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.inpaint import fill
from rad_jax.inference.samplers import default_sampler
from rad_jax.progress import progress
from rad_jax.runtime.sharding import use_cpu_cores
from tests.oracles import smooth_gaussian

SAMPLERS: dict[str, dict[str, Any]] = {
    "ancestral": {"method": "ddpm", "variance": "learned"},
    "ancestral, small variance": {"method": "ddpm", "variance": "small"},
    "DDIM": {"method": "ddim"},
    "DPM-Solver++(2M)": {"method": "dpm++"},
}
GRIDS = ("uniform", "quadratic", "log_snr")
STEPS = (5, 10, 20, 50, 100, 250)
DEFAULT = {"sampler": "ancestral", "grid": "uniform", "steps": 100}

ORACLE_SIZE = 8
DIGITS, SAMPLES = 66, 2
ONE_GRID_FROM = 100  # steps: on digits only the uniform grid from there on

Row = dict[str, Any]


def oracle_rows() -> list[Row]:
    """The error of every sampler, grid and number of steps, under two masks."""
    gaussian = smooth_gaussian(ORACLE_SIZE)
    box = np.zeros((ORACLE_SIZE, ORACLE_SIZE))
    box[2:6, 2:6] = 1
    rows = []
    for name, grid, steps in choices():
        config = SamplerConfig(clip=False, **SAMPLERS[name])
        times = sampling.time_grid(SCHEDULE, steps, grid)
        errors = [oracle_error(gaussian, m, config, times) for m in (box, 1 - box)]
        rows.append(
            {"sampler": name, "grid": grid, "steps": steps, "error": np.mean(errors)}
            | dict(zip(("box", "extreme"), errors, strict=True))
        )
    return rows


def choices() -> list[tuple[str, str, int]]:
    """Everything that is compared on the Gaussian."""
    return list(itertools.product(SAMPLERS, GRIDS, STEPS))


def digits_rows(model: Model, data_dir: Path) -> list[Row]:
    """How well each fills the holes of held-out digits, with the same noise in all.

    "behind" of a row is its mean energy score minus that of the best row with as many
    steps, and the standard error of this difference over the digits; "behind_default"
    is the same beside `DEFAULT`.
    """
    train_images, train_labels = load_split("digits", data_dir, "train", 1)
    images, labels = load_split("digits", data_dir, f"test[:{DIGITS}]", 1)
    classifier = new_classifier().fit(features(train_images), train_labels)
    masks = {kind: hole_masks(kind, images) for kind in KINDS}
    rows, scores = [], []
    chosen = [x for x in choices() if x[1] == "uniform" or x[2] < ONE_GRID_FROM]
    for name, grid, steps in progress(chosen, desc="digits", unit="run"):
        config = dataclasses.replace(default_sampler(model), **SAMPLERS[name])
        samples = filled(model, images, masks, config, steps, grid)
        row: Row = {"sampler": name, "grid": grid, "steps": steps, "masks": {}}
        of_kinds = []
        for kind, made in samples.items():
            hole = masks[kind][..., None] > 0
            of_kinds.append(energy_scores(made, images, hole))
            right = [classifier.predict(features(s)) == labels for s in made]
            row["masks"][kind] = {
                "accuracy_inpainted": float(np.mean(right)),
                "hole_rmse": rms(made.astype(float) - images, hole),
                "diversity": diversity(made, hole),
                "energy_score": float(np.mean(of_kinds[-1])),
                "known_pixels_changed": int(np.sum((made != images) & ~hole)),
            }
        rows.append(row)
        scores.append(np.mean(of_kinds, axis=0))
    return with_differences(rows, np.stack(scores))


def filled(
    model: Model,
    images: np.ndarray,
    masks: dict[str, np.ndarray],
    config: SamplerConfig,
    steps: int,
    grid: str,
) -> dict[str, np.ndarray]:
    """SAMPLES inpaintings of every image under each kind of mask, uint8."""
    pixels = jnp.asarray(np.tile(to_float(images), (len(masks), 1, 1, 1)))
    holes = jnp.asarray(np.concatenate(list(masks.values())))
    made = [
        fill(
            model,
            pixels,
            holes,
            jax.random.split(jax.random.key(seed), len(pixels)),
            steps=steps,
            sampler=config,
            grid=grid,
        )
        for seed in range(SAMPLES)
    ]
    parts = to_bytes(np.asarray(jnp.stack(made)))
    parts = parts.reshape(SAMPLES, len(masks), *images.shape)
    return {kind: parts[:, i] for i, kind in enumerate(masks)}


def energy_scores(
    samples: np.ndarray, images: np.ndarray, hole: np.ndarray
) -> np.ndarray:
    """Of each image: mean distance to the truth less half that between samples.

    A distance is the RMS over the hole, grey levels in [0, 1]. Its expectation is
    smallest for samples of the true conditional distribution, and for nothing else
    (Gneiting & Raftery 2007, Sec. 4.3): blur and missing diversity do not pay.
    """

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squares = np.where(hole, (a.astype(float) - b) / 255, 0) ** 2
        count = np.maximum(hole.sum((1, 2, 3)), 1)
        return np.sqrt(squares.sum((-3, -2, -1)) / count)

    pairs = [distance(a, b) for a, b in itertools.combinations(samples, 2)]
    return distance(samples, images[None]).mean(0) - np.mean(pairs, axis=0) / 2


def with_differences(rows: list[Row], scores: np.ndarray) -> list[Row]:
    """Rows with their mean scores and how far they are behind others.

    Args:
      rows: of digits.
      scores: (rows, digits), lower is better.
    """

    def behind(a: int, b: int) -> dict[str, float]:
        difference = scores[a] - scores[b]
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        return {"mean": float(difference.mean()), "standard_error": float(error)}

    means = scores.mean(1)
    [default] = [i for i, row in enumerate(rows) if DEFAULT.items() <= row.items()]
    more = []
    for i, row in enumerate(rows):
        rivals = [j for j, other in enumerate(rows) if other["steps"] == row["steps"]]
        best = min(rivals, key=lambda j: means[j])
        more.append(
            row
            | {
                "energy_score": float(means[i]),
                "behind": behind(i, best),
                "behind_default": behind(i, default),
            }
        )
    return more


def recommend(oracle: list[Row], digits: list[Row]) -> list[Row]:
    """The sampler and grid for each number of steps.

    Candidates are those whose energy score on digits is behind the best by at most two
    standard errors of the difference; of them, the one with the smallest error on the
    Gaussian.
    """

    def key(row: Row) -> tuple[str, str, int]:
        return row["sampler"], row["grid"], row["steps"]

    errors = {key(row): row["error"] for row in oracle}
    best = []
    for steps in sorted({row["steps"] for row in digits}):
        candidates = [
            row
            for row in digits
            if row["steps"] == steps
            and row["behind"]["mean"] <= 2 * row["behind"]["standard_error"]
        ]
        chosen = min(candidates, key=lambda row: errors[key(row)])
        best.append(
            {"steps": steps, "sampler": chosen["sampler"], "grid": chosen["grid"]}
        )
    return best


def chart(oracle: list[Row], digits: list[Row]) -> Figure:
    """Both measures against the steps."""

    def lines(rows: list[Row], value: str, factor: float) -> list[Series]:
        series = []
        for (i, name), (j, grid) in itertools.product(
            enumerate(SAMPLERS), enumerate(GRIDS)
        ):
            points = [
                (row["steps"], factor * row[value])
                for row in rows
                if row["sampler"] == name and row["grid"] == grid
            ]
            series.append(Series(i, j, points))
        return series

    left = Panel(
        "Gaussian: distance to the exact conditional",
        "steps",
        "2-Wasserstein, % of its spread",
        lines(oracle, "error", 100),
        STEPS,
    )
    right = Panel(
        "Digits: energy score (lower is better)",
        "steps",
        "RMS in the hole, grey levels in [0, 1]",
        lines(digits, "energy_score", 1),
        STEPS,
    )
    return figure([left, right], list(SAMPLERS), [f"grid {grid}" for grid in GRIDS])


def main() -> None:
    """Measures, prints, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="trained on digits")
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--plot", type=Path, default=Path("docs/solvers.png"))
    args = parser.parse_args()
    use_cpu_cores()
    record: dict[str, Any] = {"measured": measured()}
    oracle = oracle_rows()
    digits = digits_rows(load_diffusion(args.model), args.data_dir)
    record |= {
        "oracle": {"size": ORACLE_SIZE, "rows": oracle},
        "digits": {"images": DIGITS, "samples": SAMPLES, "rows": digits},
        "default": DEFAULT,
        "recommended": recommend(oracle, digits),
    }
    store(args.output, record)
    save_figure(chart(oracle, digits), args.plot)
    for row in record["recommended"]:
        print(f"{row['steps']} steps: {row['sampler']}, grid {row['grid']}")


if __name__ == "__main__":
    main()
