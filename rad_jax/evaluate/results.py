"""Results of ``rad-jax evaluate``: read, and put together by name."""

import collections
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rad_jax.errors import UserError
from rad_jax.evaluate.protocol import RESULTS

Record = Mapping[str, Any]

LOWER = {
    "fid": "FID",
    "lpips_alex": "LPIPS (Alex)",
    "lpips_alex_unscaled": "LPIPS (Alex, unscaled)",
    "lpips_vgg": "LPIPS (VGG)",
    "frechet_classifier": "Frechet (classifier)",
    "energy_hole": "energy score in the hole",
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


def read_results(paths: Iterable[Path]) -> list[Record]:
    """All results of files and folders, in the order of their paths.

    Raises:
      UserError: a file is no result, or there is none.
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


COSTS = ("seconds_per_image", "forward_evaluations", "backward_evaluations")
"""What a filling takes."""


def table_cells(records: Sequence[Record]) -> Cells:
    """By name, kind of masks and score; see `by_row`."""
    cells: Cells = {}
    for name, same in by_row(records).items():
        kinds = dict.fromkeys(kind for record in same for kind in record["masks"])
        cells[name] = {}
        for kind in kinds:
            all_scores = [r["masks"][kind] for r in same if kind in r["masks"]]
            wanted = [*COLUMNS, *COSTS]
            found = {
                score: [s[score] for s in all_scores if s.get(score) is not None]
                for score in wanted
            }
            cells[name][kind] = {k: _cell(v) for k, v in found.items() if v}
    return cells


def by_row(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Results of each row of a table: those of one name, which differ in a seed.

    A name with several numbers of network evaluations has a row for each, named so.
    """
    counts: dict[str, set[int]] = collections.defaultdict(set)
    for record in records:
        counts[record["name"]] |= {evaluations(record)}
    rows: dict[str, list[Record]] = collections.defaultdict(list)
    for record in records:
        name = record["name"]
        several = len(counts[name]) > 1
        rows[f"{name}, {evaluations(record)}" if several else name].append(record)
    return rows


def evaluations(record: Record) -> int:
    """Evaluations of a network and its gradient that a filling took; 0 if not told."""
    first = next(iter(record["masks"].values()), {})
    forward, backward = (first.get(name) or 0 for name in COSTS[1:])
    return round(forward + backward)


def by_kind(cells: Cells) -> Cells:
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
