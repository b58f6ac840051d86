"""Writes the numbers of README and docs, so that none is typed by hand.

They come from stored results (docs/results) and from the code. After `make demo`:
  python benchmarks/update_docs.py --demo demo   stores its results and picture
  python benchmarks/update_docs.py               writes the documents again
"""

import argparse
import datetime
import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import (
    base_tables,
    chip_tables,
    fewsteps_tables,
    method_settings,
    method_tables,
    scale_tables,
    solver_tables,
    speed_tables,
)
from benchmarks.ablation_tables import ablation_text
from benchmarks.adapter_tables import adapters_table, merged_text, study_table
from benchmarks.large_tables import large_pictures_text
from benchmarks.prose import filled, source_of
from rad_jax.convert.presets import PRESETS, Preset, choices_of
from rad_jax.convert.sde_presets import SDE_PRESETS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
DEMO = RESULTS / "demo.json"


def demo_table(record: dict) -> str:
    """The demo's metrics as Markdown."""
    lines = [
        "| held-out digits | accuracy, inpainted | mean-filled | true "
        "| error in the hole | diversity | s/image |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, row in record["masks"].items():
        numbers = [
            f"{row['accuracy_inpainted']:.3f}",
            f"{row['accuracy_mean_filled']:.3f}",
            f"{row['accuracy_true']:.3f}",
            f"{row['hole_rmse']:.3f}",
            f"{row['diversity']:.3f}",
            f"{row['seconds_per_image']:.3f}",
        ]
        lines.append(f"| {kind} | {' | '.join(numbers)} |")
    protocol, machine = record["protocol"], record["measured"]
    minutes = record["seconds_in_all"] / 60
    lines += [
        "",
        f"Accuracy is that of a classifier of real digits ({protocol['classifier']}) "
        f"on {protocol['samples_per_image']} samples per image at "
        f"{protocol['steps']} steps; error and diversity are RMS over the hole, grey "
        f"levels in [0, 1]. `{machine['command']}` on {machine['hardware']}, "
        f"{machine['date']}: {minutes:.1f} minutes without the environment.",
    ]
    return "\n".join(lines)


def presets_table(presets: Mapping[str, Preset]) -> str:
    """What shapes do not determine of the published checkpoints, as Markdown."""
    lines = [
        "| file | `--preset` | size | heads | order of q, k, v | noise | timesteps "
        "| dropout |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, preset in presets.items():
        choices = choices_of(preset.config, preset.schedule)
        by_width = choices.num_head_channels != -1
        rescaled = ", rescaled" if choices.rescale_timesteps else ""
        facts = [
            f"`{preset.file}`",
            f"`{name}`",
            str(choices.image_size),
            f"{choices.num_head_channels} channels each"
            if by_width
            else f"{choices.num_heads}",
            "new" if choices.use_new_attention_order else "old",
            str(choices.noise_schedule),
            f"{choices.diffusion_steps}{rescaled}",
            f"{choices.dropout:g}",
        ]
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def convert_text(record: dict | None) -> str:
    """Time and memory of a conversion, a sentence or two."""
    if record is None:
        return "Not measured yet (`python benchmarks/convert.py`)."
    there, back = record["file_to_folder"], record["folder_to_file"]
    size = record["file_mib"] / 1024
    text = (
        f"`{record['preset']}` ({record['parameters']:,} parameters, {size:.2f} GiB): "
        f"{there['seconds']:.0f} s to a model folder, {back['seconds']:.0f} s back; at "
        f"most {there['peak_over_file']:.2f} and {back['peak_over_file']:.2f} times "
        f"the file's size in memory. {source_of(record)}"
    )
    return filled(text)


def bfloat16_text(record: dict | None) -> str:
    """What computing in bfloat16 changes."""
    if record is None:
        return "Not measured yet (`python benchmarks/bfloat16.py`)."
    digits, ffhq = (
        list(record[name]["relative_error_of_noise"].values())
        for name in ("digits", "ffhq256_architecture")
    )
    difference = record["digits"]["inpainting_100_steps"]
    text = (
        f"The predicted noise differs from that in float32 by {min(digits):.1%} to "
        f"{max(digits):.1%} (root mean square over the output's, t from 1 to 1000) in "
        f"a trained RAD of digits, and by {min(ffhq):.1%} to {max(ffhq):.1%} in the "
        "FFHQ-256 network with random weights. Inpaintings of 100 steps with the same "
        f"noise differ in the hole by {difference['median']:.2f} grey levels of 255 in "
        f"the median, {difference['mean']:.2f} in the mean and "
        f"{difference['percentile_99']:.0f} at the 99th percentile; known pixels that "
        f"changed: {difference['known_pixels_changed']}. {source_of(record)}"
    )
    return filled(text)


def loop_text(loop: dict | None, data: dict | None) -> str:
    """What a step costs beside the network, and the rate of the input."""
    parts = []
    if loop is not None:
        times = loop["milliseconds"]
        parts.append(
            f"The loop takes {times['overhead']:.1f} ms for a step of the digits "
            "config without its network, beside the bare call of a step that only "
            f"counts ({times['bare']:.1f} ms). {source_of(loop)}"
        )
    if data is not None:
        rates, best = data["images_per_second"], data["better_loop"]
        ratios = data["median_ratio_to_the_better_loop"]
        threads, workers = (
            f"{rates[name]['median']:.0f} images/s in {kind} ({ratios[name]:.2f} times)"
            for name, kind in (
                ("pipeline_threads", "threads"),
                ("pipeline_workers", f"{data['cores']} processes"),
            )
        )
        parts.append(
            f"The input decodes 256x256 PNGs at {threads} and {workers}, where bare "
            f"decoding by Pillow on all cores, {best.split('_')[1]}, makes "
            f"{rates[best]['median']:.0f}. {source_of(data)}"
        )
    return filled(" ".join(parts) or "Not measured yet.")


def scoring_text(record: dict | None) -> str:
    """What metrics take beside the filling."""
    if record is None:
        return "not measured (`python benchmarks/evaluation.py`)"
    parts = []
    for row in record["rows"]:
        *_, scores = row["masks"].values()
        filling, scoring = (
            scores[name] for name in ("seconds_per_image", "scoring_seconds_per_image")
        )
        parts.append(
            f"{scoring:.2g} s beside {filling:.2g} s of filling in {record['steps']} "
            f"steps ({scoring / filling:.1%}) by the network of `{row['case']}`"
        )
    return filled(
        f"An image's metrics, all but the classifier's, take {'; '.join(parts)}; "
        f"{record['images']} images, random weights, without compiling."
    )


def measured_on(table: Callable[[dict | None], str], name: str) -> str:
    """A benchmark's table on a CPU, and that on a GPU."""
    parts = []
    for record, where in ((stored(name), "A CPU"), (stored(f"gpu_{name}"), "A GPU")):
        if record is None:
            parts.append(f"{where}: {table(None)}.")
        else:
            parts += [table(record), filled(source_of(record))]
    return "\n\n".join(parts)


def with_block(document: str, name: str, text: str) -> str:
    """The document with its block of this name made anew."""
    begin = f"<!-- {name}: written by benchmarks/update_docs.py -->"
    end = f"<!-- end of {name} -->"
    before, rest = document.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def stored(name: str) -> dict | None:
    """A result, if there is one."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def documents() -> dict[Path, str]:
    """Every document with numbers, as it should be."""
    names = sorted(path.stem for path in RESULTS.glob("chip_programs_*.json"))
    chip_programs = [stored(name) for name in names]
    blocks = {
        "README.md": {
            "demo": demo_table(json.loads(DEMO.read_text())),
            "speed": measured_on(speed_tables.summary_table, "unet"),
        },
        "docs/converting.md": {
            "presets": presets_table(PRESETS),
            "presets of score_sde": base_tables.sde_presets_table(SDE_PRESETS),
            "time and memory": convert_text(stored("convert")),
        },
        "docs/bases.md": {"digits": base_tables.bases_text(RESULTS / "bases")},
        "docs/fewsteps.md": {
            "digits": fewsteps_tables.digits_text(RESULTS / "fewsteps"),
            "gaussian": fewsteps_tables.gaussian_text(stored("fewsteps_gaussian")),
        },
        "docs/training.md": {
            "study": study_table(stored("digits_lora")),
            "adapters": adapters_table(stored("lora")),
            "speed": loop_text(stored("train_loop"), stored("input_pipeline")),
        },
        "docs/evaluation.md": {
            "scoring": measured_on(scoring_text, "evaluation"),
            "ablation": ablation_text(ROOT / "docs"),
        },
        "docs/baselines.md": {
            "settings": method_settings.settings_table(),
            "differences": method_settings.differences(),
            "quality": method_tables.quality_text(ROOT / "docs"),
            "photographs": method_tables.photos_text(ROOT / "docs"),
            "oracle": method_tables.oracle_text(stored("method_oracle")),
            "seconds": measured_on(method_tables.speed_text, "method_speed"),
            "sources": method_settings.citations(),
        },
        "docs/inpainting.md": {
            "bfloat16": bfloat16_text(stored("bfloat16")),
            "large pictures": measured_on(large_pictures_text, "large_pictures"),
        },
        "docs/scale.md": {
            "rate": scale_tables.rate_text(stored("batch_inpainting")),
            "a million": scale_tables.million_text(stored("million")),
            "on paper": scale_tables.paper_text(
                stored("batch_inpainting"),
                stored("bucket_requests"),
                stored("chip_programs_h100"),
            ),
        },
        "docs/chips.md": {
            "chips": chip_tables.chips_text(chip_programs),
            "memory of training": chip_tables.memory_text(stored("train_memory")),
        },
        "docs/benchmarks.md": {
            "network": measured_on(speed_tables.unet_table, "unet"),
            "whole inpainting": measured_on(
                speed_tables.inpainting_table, "inpainting"
            ),
            "training steps": measured_on(speed_tables.training_table, "training"),
            "cold start": measured_on(speed_tables.cold_start_table, "cold_start"),
            "choices": measured_on(speed_tables.choices_table, "choices"),
            "eigen": speed_tables.eigen_text(stored("eigen")),
            "fast ways": measured_on(speed_tables.fast_paths_table, "fast_paths"),
            "compiled programs": chip_tables.changes_text(chip_programs),
            "last convolution": speed_tables.last_convolution_text(
                stored("last_convolution")
            ),
            "merged adapters": merged_text(stored("merged_adapters")),
            "fewer steps": solver_tables.solvers_text(stored("solvers")),
        },
    }
    texts = {}
    for file, named in blocks.items():
        text = (ROOT / file).read_text()
        for name, block in named.items():
            text = with_block(text, name, block)
        texts[ROOT / file] = text
    return texts


def store_demo(folder: Path) -> None:
    """Takes over a demo's metrics, with where and when they were measured."""
    record = json.loads((folder / "metrics.json").read_text())
    record["measured"] = {
        "command": "make demo",
        "hardware": f"{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()})",
        "date": datetime.date.today().isoformat(),
    }
    DEMO.write_text(json.dumps(record, indent=2) + "\n")
    shutil.copy(folder / "inpainted.png", ROOT / "docs" / "demo.png")


def main() -> None:
    """Stores a demo if given, and writes the documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="folder of a finished demo")
    args = parser.parse_args()
    if args.demo:
        store_demo(args.demo)
    for path, text in documents().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
