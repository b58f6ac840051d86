"""Results of few evaluations as Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fewsteps import EVALUATIONS, runs
from benchmarks.prose import filled, source_of

COMMAND = "python benchmarks/fewsteps.py"
GAUSSIAN_COMMAND = "python benchmarks/fewsteps_gaussian.py"
KINDS = {
    "trajectory": "trajectories",
    "energy": "trajectories, then energy",
    "alone": "energy alone",
    "consistency": "consistency",
}
COLUMNS = ("accuracy", "energy", "frechet", "rms", "diversity")
MASKS = ("box", "extreme", "perlin")
CHANGES = ("energy", "accuracy", "frechet", "square", "diversity")


def digits_text(results: Path) -> str:
    """Means over masks and seeds, the recommended student by mask, what is left."""
    teacher = results / "teacher.json"
    if not teacher.exists():
        return f"Not run yet (`{COMMAND}`)."
    first = json.loads(teacher.read_text())
    groups = _groups(results)
    lines = [
        "| filled by | evaluations | seeds "
        "| accuracy | ES | Fréchet | RMS | diversity |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [("teacher, ancestral", ["100"], [first])]
    rows += [("teacher, DPM-Solver++(2M)", [str(n) for n in EVALUATIONS], [first])]
    rows += [(name, [str(n) for n in EVALUATIONS], of) for name, of in groups.items()]
    for name, counts, records in rows:
        for count in counts:
            cells = [
                _cell([_mean(x["evaluations"][count], column) for x in records])
                for column in COLUMNS
            ]
            head = f"{name} | {count} | {len(records)}"
            lines.append(f"| {head} | {' | '.join(cells)} |")
    best = groups.get(KINDS["energy"])
    if best:
        lines += ["", *_changes_table(best)]
    done = sum(len(of) for of in groups.values())
    total = len(list(runs()))
    left = f"{done} of {total} students are done. " if done < total else ""
    lines += ["", filled(f"{left}{_protocol(first)} {source_of(first)}")]
    lines += ["", _memorised(first, best or [])]
    return "\n".join([*lines, *_speed(best or [])])


def _groups(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Records by what the students are."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs():
        path = results / f"{run.name}.json"
        if path.exists():
            name = KINDS[run.kind]
            name += f", LoRA of rank {run.rank}" if run.rank else ""
            name += f" in {run.features}" if run.features != "pixels" else ""
            found.setdefault(name, []).append(json.loads(path.read_text()))
    return found


def _changes_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """Differences to 100 ancestral steps, with their intervals."""
    names = ("ES", "accuracy", "Fréchet", "mean square", "diversity")
    lines = [
        f"| mask | evaluations | {' | '.join(names)} |",
        "|" + "---|" * (2 + len(names)),
    ]
    for mask in MASKS:
        for count in EVALUATIONS[:3]:
            cells = []
            for column in CHANGES:
                each = [
                    x["evaluations"][str(count)][mask]["difference"][column]
                    for x in records
                ]
                mean, low, high = (
                    np.mean([x[end] for x in each]) for end in ("mean", "low", "high")
                )
                cells.append(f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]")
            lines.append(f"| {mask} | {count} | {' | '.join(cells)} |")
    return lines


def _protocol(record: dict[str, Any]) -> str:
    return (
        "Means over the masks box, extreme and perlin and over seeds of training, with "
        f"their standard deviation; {record['num_images']} held-out digits, "
        f"{record['num_samples']} samples of each. ES is the "
        "energy score of the hole's RMS, grey levels in [0, 1]; accuracy and Fréchet "
        "are of a classifier of real digits. Below, differences of trajectories, then "
        "energy, to 100 ancestral steps of the teacher, paired by digit, with 95% "
        "bootstrap intervals, both means over seeds. 8 evaluations are at times the "
        "students were not trained for."
    )


def _memorised(teacher: dict[str, Any], students: Sequence[dict[str, Any]]) -> str:
    found = teacher["memorisation"]
    text = (
        "Nearest training digit, median RMS over the image, of fillings of extreme "
        f"masks: teacher {found['nearest_filled']:.3f}"
    )
    for record in students[:1]:
        own = record["memorisation"]
        text += f", student in 4 evaluations {own['nearest_filled']:.3f}"
    text += f"; of the held-out digits themselves {found['nearest_real']:.3f}. "
    text += (
        f"ES on digits trained on {found['energy_trained_on']:.4f}, held out "
        f"{found['energy_held_out']:.4f}"
    )
    for record in students[:1]:
        own = record["memorisation"]
        text += (
            f"; of the student {own['energy_trained_on']:.4f} and "
            f"{own['energy_held_out']:.4f}"
        )
    return filled(f"{text}.")


def _speed(students: Sequence[dict[str, Any]]) -> list[str]:
    """What the first of them took, beside its teacher."""
    for record in students[:1]:
        found = record["images_per_second"]
        slowest = min(found.values())
        each = ", ".join(
            f"{name} {rate:.1f} ({rate / slowest:.0f} x)"
            for name, rate in found.items()
        )
        return ["", filled(f"Digits per second, batch of 16, one run: {each}.")]
    return []


def gaussian_text(record: dict[str, Any] | None) -> str:
    """Distances to the exact conditional, by solver and evaluations."""
    if record is None:
        return f"Not run yet (`{GAUSSIAN_COMMAND}`)."
    found = record["distance"]
    counts = sorted({int(n) for row in found.values() for n in row})
    lines = [
        f"| evaluations | {' | '.join(map(str, counts))} |",
        "|" + "---|" * (1 + len(counts)),
    ]
    for name, row in found.items():
        cells = [f"{row[str(n)]:.4f}" if str(n) in row else "" for n in counts]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        filled(
            "2-Wasserstein distance of fillings of the 4x4 pixels in the middle to the "
            f"exact conditional, mean over {record['contents']} known contents, "
            f"{record['samples']} fillings of each; as many exact draws are "
            f"{record['exact_draws']:.4f} away, and a pixel's deviation is "
            f"{record['deviation']:.3f}. {source_of(record)}"
        ),
    ]
    return "\n".join(lines)


def _mean(masks: dict[str, Any], column: str) -> float:
    return float(np.mean([masks[mask][column] for mask in MASKS]))


def _cell(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.4f}"
