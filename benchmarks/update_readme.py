"""Writes the numbers of README and docs, so that none is typed by hand.

They come from stored results (docs/results) and from the code. After `make demo`:
  python benchmarks/update_readme.py --demo demo   stores its results and picture
  python benchmarks/update_readme.py               writes the documents again
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path

from rad_jax.convert.presets import PRESETS, Preset, choices_of

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "docs" / "results" / "demo.json"
CONVERT = ROOT / "docs" / "results" / "convert.json"


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
    """What no shape tells of the published checkpoints, as Markdown."""
    lines = [
        "| file | `--preset` | size | heads | order of q, k, v | noise | dropout |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, preset in presets.items():
        choices = choices_of(preset.config, preset.noise_schedule)
        by_width = choices.num_head_channels != -1
        facts = [
            f"`{preset.file}`",
            f"`{name}`",
            str(choices.image_size),
            f"{choices.num_head_channels} channels each"
            if by_width
            else f"{choices.num_heads}",
            "new" if choices.use_new_attention_order else "old",
            str(choices.noise_schedule),
            f"{choices.dropout:g}",
        ]
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def convert_text(record: dict | None) -> str:
    """Time and memory of a conversion, a sentence or two."""
    if record is None:
        return "Not measured yet (`python benchmarks/convert.py`)."
    there, back = record["file_to_folder"], record["folder_to_file"]
    size, machine = record["file_mib"] / 1024, record["measured"]
    text = (
        f"`{record['preset']}` ({record['parameters']:,} parameters, {size:.2f} GiB): "
        f"{there['seconds']:.0f} s to a model folder, {back['seconds']:.0f} s back; at "
        f"most {there['peak_over_file']:.2f} and {back['peak_over_file']:.2f} times "
        f"the file's size in memory. `{machine['command']}` on {machine['hardware']}, "
        f"{machine['date']}."
    )
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def with_block(document: str, name: str, text: str) -> str:
    """The document with its block of this name made anew."""
    begin = f"<!-- {name}: written by benchmarks/update_readme.py -->"
    end = f"<!-- end of {name} -->"
    before, rest = document.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def documents() -> dict[Path, str]:
    """Every document with numbers, as it should be."""
    readme, converting = ROOT / "README.md", ROOT / "docs" / "converting.md"
    record = json.loads(CONVERT.read_text()) if CONVERT.exists() else None
    text = with_block(converting.read_text(), "presets", presets_table(PRESETS))
    demo = demo_table(json.loads(DEMO.read_text()))
    return {
        readme: with_block(readme.read_text(), "demo", demo),
        converting: with_block(text, "time and memory", convert_text(record)),
    }


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
