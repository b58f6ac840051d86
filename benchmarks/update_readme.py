"""Writes the README's numbers from stored results, so that none is typed by hand.

After `make demo`:
  python benchmarks/update_readme.py --demo demo   stores its results and picture
  python benchmarks/update_readme.py               writes the README again
"""

import argparse
import datetime
import json
import os
import platform
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
STORED = ROOT / "docs" / "results" / "demo.json"
BEGIN = "<!-- demo: written by benchmarks/update_readme.py -->"
END = "<!-- end of demo -->"


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


def write_readme(readme: str, record: dict) -> str:
    """The README with its demo block made anew."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{demo_table(record)}\n{END}{after}"


def store_demo(folder: Path) -> None:
    """Takes over a demo's metrics, with where and when they were measured."""
    record = json.loads((folder / "metrics.json").read_text())
    record["measured"] = {
        "command": "make demo",
        "hardware": f"{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()})",
        "date": datetime.date.today().isoformat(),
    }
    STORED.write_text(json.dumps(record, indent=2) + "\n")
    shutil.copy(folder / "inpainted.png", ROOT / "docs" / "demo.png")


def main() -> None:
    """Stores a demo if given, and writes the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="folder of a finished demo")
    args = parser.parse_args()
    if args.demo:
        store_demo(args.demo)
    readme = ROOT / "README.md"
    record = json.loads(STORED.read_text())
    readme.write_text(write_readme(readme.read_text(), record))


if __name__ == "__main__":
    main()
