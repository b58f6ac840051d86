"""Results of RAD's bases as Markdown, and the published checkpoints of score_sde."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bases import AS_PUBLISHED, FILLING_STEPS, WAYS, runs
from benchmarks.prose import filled, source_of
from configs.digits_base import BASES
from rad_jax.convert.sde_presets import SDEPreset

NAMES = {
    "adm": "ADM",
    "iddpm": "iDDPM, cosine 4000",
    "vp": "DDPM++, VP in continuous time",
    "ve": "NCSN++, VE",
    "ve_input": "NCSN++, VE, its input x + sigma z",
    "ve_fourier": "NCSN++, VE, Fourier scale 16",
    "ve_both": "NCSN++, VE, both, as published",
}
WAY_NAMES = {"scratch": "from scratch", "lora": "LoRA of a plain model"}
MASKS = ("box", "extreme", "perlin")
SCORES = {"accuracy_inpainted": "accuracy", "hole_rmse": "error", "diversity": "div."}

COMMAND = "python benchmarks/bases.py"
MISSING = f"Not run yet (`{COMMAND}`)."


def bases_text(results: Path) -> str:
    """Means over seeds of each base, way and number of steps; what is missing."""
    records = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if not records:
        return MISSING
    titles = [f"{mask} {name}" for mask in MASKS for name in SCORES.values()]
    lines = [
        f"| base | trained | seeds | steps | {' | '.join(titles)} |",
        "|" + "---|" * (4 + len(titles)),
    ]
    for way in WAYS:
        for base in (*BASES, *AS_PUBLISHED):
            found = [x for x in records if (x["base"], x["way"]) == (base, way)]
            for steps in FILLING_STEPS if found else ():
                cells = [
                    _cell([x["steps"][str(steps)][mask][score] for x in found])
                    for mask in MASKS
                    for score in SCORES
                ]
                head = f"{NAMES[base]} | {WAY_NAMES[way]} | {len(found)} | {steps}"
                lines.append(f"| {head} | {' | '.join(cells)} |")
    changed = {
        mask["known_pixels_changed"]
        for record in records
        for masks in record["steps"].values()
        for mask in masks.values()
    }
    lines += ["", *pictures(results)]
    first = records[0]
    total = len(list(runs()))
    done = f"{len(records)} of {total} runs are done. " if len(records) < total else ""
    lines += [
        "",
        filled(
            f"{done}Mean over seeds of training, and where there are several their "
            f"standard deviation. {first['num_images']} held-out digits, "
            f"{first['num_samples']} samples of each, the ancestral sampler on a "
            "uniform grid. Accuracy is that of a classifier of real digits, error and "
            "diversity are RMS over the hole, grey levels in [0, 1]. Known pixels that "
            f"changed: {max(changed)}. {source_of(first)}"
        ),
    ]
    return "\n".join(lines)


def pictures(results: Path) -> list[str]:
    """A row of the pictures that there are, of the first seed."""
    cells = {
        f"{NAMES[base]}, {WAY_NAMES[way]}": f"{base}_{way}.png"
        for way in WAYS
        for base in BASES
        if (results / f"{base}_{way}.png").exists()
    }
    images = [
        f"![input, mask, two samples and the truth of six digits](results/bases/{file})"
        for file in cells.values()
    ]
    return [
        f"| {' | '.join(cells)} |",
        "|" + "---|" * len(cells),
        f"| {' | '.join(images)} |",
    ]


def _cell(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.3f}"


def sde_presets_table(presets: Mapping[str, SDEPreset]) -> str:
    """The published checkpoints of score_sde, as Markdown."""
    lines = [
        "| checkpoint | `--preset` | size | process | the network is told |",
        "|---|---|---|---|---|",
    ]
    for name, preset in presets.items():
        facts = [
            f"`{preset.file}`",
            f"`{name}`",
            str(preset.config.image_size),
            *_process(preset),
        ]
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def _process(preset: SDEPreset) -> tuple[str, Any]:
    schedule = preset.schedule
    least, largest = schedule.sigmas
    return {
        "ve": (f"VE, sigma {least:g} to {largest:g}", "log sigma"),
        "ve_index": (f"VE, sigma {least:g} to {largest:g}", "an index of 1000"),
        "vp": ("VP", "999 u"),
        "subvp": ("sub-VP", "999 u"),
        "linear": ("DDPM, linear", "an index of 1000"),
    }[schedule.kind]
