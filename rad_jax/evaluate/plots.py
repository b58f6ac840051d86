"""The plots of a report, as data for `charts`."""

from rad_jax.evaluate.charts import COLOURS, MARKERS, Panel, Series
from rad_jax.evaluate.results import LOWER, Cells, by_kind


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
                Series(i % len(COLOURS), i // len(COLOURS) % len(MARKERS), [p], name)
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
