"""``rad-jax report``: tables and plots of results of ``rad-jax evaluate``."""

import collections
import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rad_jax.errors import UserError
from rad_jax.evaluate import paper
from rad_jax.evaluate.protocol import RESULTS
from rad_jax.files.atomic import atomic_write
from rad_jax.files.pictures import save_png
from rad_jax.line_chart import COLOURS, MARKERS, Panel, Series, draw

Record = Mapping[str, Any]

LOWER = {
    "fid": "FID",
    "lpips_alex": "LPIPS (Alex)",
    "lpips_alex_unscaled": "LPIPS (Alex, unscaled)",
    "lpips_vgg": "LPIPS (VGG)",
    "frechet_classifier": "Frechet (classifier)",
}
HIGHER = {
    "accuracy": "accuracy",
    "psnr_hole": "PSNR in the hole",
    "ssim_hole": "SSIM in the hole",
    "diversity_rms": "diversity (RMS)",
    "diversity_lpips": "diversity (LPIPS)",
}
COLUMNS = LOWER | HIGHER | {"seam_ratio": "seam"}
"""Scores of the tables, where there are any, with their names."""

SAME = ("data", "split", "num_images", "image_size", "seed", "num_samples")
"""Settings in which the results of one table agree."""


class Cell(NamedTuple):
    """A score over the results of one name.

    With one result, low and high are the bootstrap's over images, if it has any; with
    several, which differ in the training's seed, they are the least and the greatest.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        """As a table shows it."""
        if self.low is None or self.high is None:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


Cells = dict[str, dict[str, dict[str, Cell]]]
"""By name, kind of masks and score."""


def report(paths: Sequence[Path], output: Path) -> list[Path]:
    """Writes report.md, report.csv and plots for each set of images.

    Args:
      paths: files that ``rad-jax evaluate`` wrote, or folders with some below.
      output: folder.

    Returns:
      What was written.

    Raises:
      UserError: a file is none of these, there is none, or nothing can be written.
    """
    groups: dict[tuple, list[Record]] = collections.defaultdict(list)
    for record in read_results(paths):
        groups[tuple(record["settings"].get(name) for name in SAME)].append(record)
    texts, rows, written = [], [], []
    for number, records in enumerate(groups.values()):
        cells = table_cells(records)
        pictures = {}
        for name, caption, panels in (
            ("quality", "Quality against seconds per image", quality_panels(cells)),
            ("seeds", "Quality over the seeds of training", seed_panels(cells)),
        ):
            if panels:
                picture = output / f"{name}{number or ''}.png"
                save_png(draw(panels, [], []), picture)
                written.append(picture)
                pictures[caption] = picture.name
        texts.append(markdown(records, cells, pictures))
        rows += list(csv_rows(records, cells))
    text = "\n\n".join(texts) + "\n"
    lines = io.StringIO(newline="")
    csv.writer(lines, lineterminator="\n").writerows([CSV_HEAD, *rows])
    for name, content in ("report.md", text), ("report.csv", lines.getvalue()):
        with atomic_write(output / name) as part:
            part.write_text(content)
        written.insert(0, output / name)
    return written


def read_results(paths: Iterable[Path]) -> list[Record]:
    """All results of files and folders, in the order of their paths.

    Raises:
      UserError: see `report`.
    """
    files = []
    for path in paths:
        found = sorted(path.rglob(RESULTS)) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: holds no {RESULTS}; run rad-jax evaluate first")
        files += found
    records = []
    for file in files:
        try:
            record = json.loads(file.read_text())
            _check(record)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{file}: is no result of rad-jax evaluate, or is damaged"
            ) from error
        records.append(record)
    return records


def _check(record: Any) -> None:
    """Raises if a record lacks what a report reads."""
    for name in ("name", "protocol", "fid_reference"):
        if not isinstance(record[name], str):
            raise TypeError(name)
    record["settings"].items()
    for scores in record["masks"].values():
        for name in COLUMNS:
            if name in scores:
                _cell([scores[name]])


def table_cells(records: Sequence[Record]) -> Cells:
    """By name, kind of masks and score."""
    by_name: dict[str, list[Record]] = collections.defaultdict(list)
    for record in records:
        by_name[record["name"]].append(record)
    cells: Cells = {}
    for name, same in by_name.items():
        kinds = dict.fromkeys(kind for record in same for kind in record["masks"])
        cells[name] = {}
        for kind in kinds:
            all_scores = [r["masks"][kind] for r in same if kind in r["masks"]]
            wanted = [*COLUMNS, "seconds_per_image"]
            found = {
                score: [s[score] for s in all_scores if s.get(score) is not None]
                for score in wanted
            }
            cells[name][kind] = {k: _cell(v) for k, v in found.items() if v}
    return cells


def _by_kind(cells: Cells) -> Cells:
    """By kind of masks, name and score."""
    kinds = dict.fromkeys(kind for found in cells.values() for kind in found)
    return {
        kind: {name: found[kind] for name, found in cells.items() if kind in found}
        for kind in kinds
    }


def _cell(values: Sequence[Any]) -> Cell:
    means = [float(v["mean"] if isinstance(v, Mapping) else v) for v in values]
    if not all(map(math.isfinite, means)):
        raise ValueError("not finite")
    mean = math.fsum(means) / len(means)
    if len(means) > 1:
        return Cell(mean, min(means), max(means), len(means))
    only = values[0]
    if isinstance(only, Mapping):
        return Cell(mean, float(only["low"]), float(only["high"]), 1)
    return Cell(mean, None, None, 1)


def markdown(
    records: Sequence[Record],
    cells: Cells,
    pictures: Mapping[str, str],
) -> str:
    """One table for each kind of masks, what the numbers are of, and plots."""
    first = records[0]
    parts = []
    for kind, having in _by_kind(cells).items():
        scores = [s for s in COLUMNS if any(s in found for found in having.values())]
        lines = [
            f"| {kind} | {' | '.join(_head(score) for score in scores)} |",
            f"|---|{'---|' * len(scores)}",
        ]
        for name, found in having.items():
            shown = [str(found[s]) if s in found else "" for s in scores]
            lines.append(f"| {name} | {' | '.join(shown)} |")
        lines += _paper_lines(records, kind, scores)
        parts.append("\n".join(lines))
    cell_sets = [found for kinds in cells.values() for found in kinds.values()]
    several = any(cell.count > 1 for found in cell_sets for cell in found.values())
    notes = [
        "In brackets the least and the greatest over training seeds."
        if several
        else "In brackets 95% intervals over images."
    ]
    if any("fid" in found for found in cell_sets):
        notes.append(f"FID's reference: {first['fid_reference']}.")
    parts.append(" ".join(notes) + "\n\n" + "\n".join(_protocol_lines(records)))
    parts += [f"![{caption}]({file})" for caption, file in pictures.items()]
    return "\n\n".join(parts)


def _protocol_lines(records: Sequence[Record]) -> Iterable[str]:
    """What was done, once for all names of which it is said, and these names."""
    names: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for record in records:
        names[record["protocol"]][record["name"]] = None
    for protocol, having in names.items():
        whose = "" if len(names) == 1 else f"{', '.join(having)}: "
        yield f"- {whose}{protocol}"


def _head(score: str) -> str:
    arrow = " ↓" if score in LOWER else " ↑" if score in HIGHER else " (1 is best)"
    return COLUMNS[score] + arrow


def _paper_lines(
    records: Sequence[Record], kind: str, scores: Sequence[str]
) -> list[str]:
    """The paper's rows, where the images are as many and as large.

    Its FID stands there only beside one against a reference: of the same images it is
    another number.
    """
    settings = records[0]["settings"]
    table = paper.TABLES.get(settings.get("data"), {})
    asked = settings.get("num_images"), settings.get("image_size")
    if asked != (paper.NUM_IMAGES, paper.SIZE) or kind not in paper.Row._fields:
        return []
    against = all(r["fid_reference"] != "the same images" for r in records)
    lines = []
    for name, row in table.items():
        known = dict(zip(paper.SCORES, getattr(row, kind), strict=True))
        if not against:
            del known["fid"]
        shown = [f"{known[s]:g}" if s in known else "" for s in scores]
        lines.append(f"| *{name} (paper)* | {' | '.join(shown)} |")
    return lines


CSV_HEAD = ("name", "data", "split", "images", "masks", "score", "mean", "low", "high")


def csv_rows(records: Sequence[Record], cells: Cells) -> Iterable[tuple]:
    """A row for each name, kind of masks and score."""
    settings = records[0]["settings"]
    same = tuple(settings.get(name) for name in ("data", "split", "num_images"))
    for name, kinds in cells.items():
        for kind, found in kinds.items():
            for score, cell in found.items():
                yield (name, *same, kind, score, cell.mean, cell.low, cell.high)


def quality_panels(cells: Cells) -> list[Panel]:
    """Quality against seconds per image, a panel for each kind of masks."""
    panels = []
    for kind, having in _by_kind(cells).items():
        points = {}
        for score in LOWER:
            points = {
                name: (found["seconds_per_image"].mean, found[score].mean)
                for name, found in having.items()
                if score in found and "seconds_per_image" in found
            }
            if points:
                break
        points = {name: p for name, p in points.items() if min(p) > 0}
        if points:
            series = [
                Series(i % len(COLOURS), i // len(COLOURS) % len(MARKERS), [p], name)
                for i, (name, p) in enumerate(points.items())
            ]
            x_ticks, y_ticks = map(_ticks, zip(*points.values(), strict=True))
            axes = "seconds per image", LOWER[score]
            panels.append(Panel(kind, *axes, x_ticks, y_ticks, series))
    return panels


def seed_panels(cells: Cells) -> list[Panel]:
    """Mean, least and greatest of results that differ in the training's seed."""
    panels = []
    for kind, having in _by_kind(cells).items():
        for score in LOWER:
            rows = [(name, f[score]) for name, f in having.items() if score in f]
            if any(cell.count > 1 for _, cell in rows):
                break
        else:
            continue
        lines = {
            name: [x for x in (cell.low, cell.mean, cell.high) if x is not None]
            for name, cell in rows
        }
        values = [x for line in lines.values() for x in line]
        if min(values) > 0:
            series = [
                Series(i % len(COLOURS), 0, [(x, i) for x in line], name)
                for i, (name, line) in enumerate(lines.items())
            ]
            panels.append(
                Panel(kind, LOWER[score], "", _ticks(values), len(lines), series)
            )
    return panels


def _ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times powers of ten, from below the least to above the greatest."""
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)) + 1e-9)
    ticks = [m * 10.0**e for e in range(low, high + 1) for m in (1, 2, 5)]
    first = max(i for i, tick in enumerate(ticks) if tick <= min(values))
    last = min(i for i, tick in enumerate(ticks) if tick > max(values))
    return ticks[first : last + 1]
