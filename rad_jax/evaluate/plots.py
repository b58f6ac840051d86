"""The plots of a report, as data for `charts`."""

from collections.abc import Sequence
from typing import NamedTuple

from rad_jax.evaluate.charts import COLOURS, MARKERS, Panel, Series
from rad_jax.evaluate.results import (
    COLUMNS,
    LOWER,
    Cells,
    Record,
    by_kind,
    by_row,
    evaluations,
    table_cells,
)


def quality_panels(cells: Cells) -> list[Panel]:
    """Quality against seconds per image, a panel for each kind of masks."""
    panels = []
    for kind, having in by_kind(cells).items():
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
                Series(*_style(i), [p], name)
                for i, (name, p) in enumerate(points.items())
            ]
            panels.append(Panel(kind, "seconds per image", LOWER[score], series))
    return panels


def seed_panels(cells: Cells) -> list[Panel]:
    """Mean, least and greatest of results that differ in the training's seed."""
    panels = []
    for kind, having in by_kind(cells).items():
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
            panels.append(Panel(kind, LOWER[score], "", series, in_rows=True))
    return panels


class Lines(NamedTuple):
    """Panels whose lines share a legend: name, colour and marker of each."""

    panels: list[Panel]
    legend: dict[str, tuple[int, int]]


def evaluation_lines(records: Sequence[Record], score: str) -> Lines:
    """A score against evaluations of the network, a line for each name.

    There are no panels where no name has several numbers of evaluations.
    """
    rows = by_row(records)
    names = dict.fromkeys(record["name"] for record in records)
    styles = {name: _style(i) for i, name in enumerate(names)}
    panels = []
    for kind, having in by_kind(table_cells(records)).items():
        found: dict[str, list] = {name: [] for name in names}
        for row, cells in having.items():
            first = rows[row][0]
            cell, count = cells.get(score), evaluations(first)
            if cell is not None and cell.mean > 0 and count:
                found[first["name"]].append((count, cell))
        if max(map(len, found.values())) < 2:
            continue
        series = []
        for name, points in found.items():
            points.sort()
            means = [(count, cell.mean) for count, cell in points]
            ranges = [(c.low or c.mean, c.high or c.mean) for _, c in points]
            if points:
                series.append(Series(*styles[name], means, ranges=ranges))
        panels.append(Panel(kind, "evaluations of the network", COLUMNS[score], series))
    return Lines(panels, styles)


def _style(i: int) -> tuple[int, int]:
    """Colour and marker of a number: all colours before another marker."""
    return i % len(COLOURS), i // len(COLOURS) % len(MARKERS)
