"""``rad-jax report``: tables and plots of results of ``rad-jax evaluate``."""

import collections
import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rad_jax.evaluate import paper
from rad_jax.evaluate.charts import figure, require_matplotlib, save_figure
from rad_jax.evaluate.plots import evaluation_lines, quality_panels, seed_panels
from rad_jax.evaluate.results import (
    COLUMNS,
    HIGHER,
    LOWER,
    Cells,
    Record,
    by_kind,
    by_row,
    read_results,
    table_cells,
)
from rad_jax.files.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAME = ("data", "split", "num_images", "image_size", "num_samples")
"""Settings in which the results of one table agree; their seeds are named."""


SHOWN = COLUMNS | {
    "forward_evaluations": "evaluations",
    "backward_evaluations": "backward",
    "seconds_per_image": "seconds",
}
"""Columns of the tables, with their names."""


def report(paths: Sequence[Path], output: Path) -> list[Path]:
    """Writes report.md, report.csv and plots for each set of images.

    Args:
      paths: files that ``rad-jax evaluate`` wrote, or folders with some below.
      output: folder.

    Returns:
      What was written.

    Raises:
      UserError: a file is none of these, there is none, nothing can be written, or
        Matplotlib is missing.
    """
    require_matplotlib()
    texts, rows, written = [], [], []
    for number, records in enumerate(groups(read_results(paths))):
        cells = table_cells(records)
        pictures = {}
        for name, caption, drawn in _figures(records, cells):
            picture = output / f"{name}{number or ''}.png"
            save_figure(drawn, picture)
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


def groups(records: Iterable[Record]) -> list[list[Record]]:
    """Results of each set of images, which stand in tables of their own."""
    found: dict[tuple, list[Record]] = collections.defaultdict(list)
    for record in records:
        found[tuple(record["settings"].get(name) for name in SAME)].append(record)
    return list(found.values())


def _figures(
    records: Sequence[Record], cells: Cells
) -> Iterable[tuple[str, str, "Figure"]]:
    """Name, caption and picture of each plot that there is something for."""
    if panels := quality_panels(cells):
        yield "quality", "Quality against seconds per image", figure(panels)
    lines = {score: evaluation_lines(records, score) for score in LOWER}
    for score, (panels, legend) in lines.items():
        if panels:
            caption = f"{LOWER[score]} against evaluations of the network"
            yield f"evaluations_{score}", caption, figure(panels, lines=legend)
    panels = seed_panels(cells)
    if panels and not any(found.panels for found in lines.values()):
        yield "seeds", "Quality over the seeds of training", figure(panels)


def markdown(
    records: Sequence[Record],
    cells: Cells,
    pictures: Mapping[str, str],
) -> str:
    """One table for each kind of masks, what the numbers are of, and plots."""
    first = records[0]
    parts = []
    for kind, having in by_kind(cells).items():
        scores = [s for s in SHOWN if any(s in found for found in having.values())]
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
        "In brackets the least and the greatest over seeds."
        if several
        else "In brackets 95% intervals over images."
    ]
    if any("fid" in found for found in cell_sets):
        notes.append(f"FID's reference: {first['fid_reference']}.")
    parts.append(" ".join(notes) + "\n\n" + "\n".join(_protocol_lines(records)))
    parts += [f"![{caption}]({file})" for caption, file in pictures.items()]
    return "\n\n".join(parts)


def _protocol_lines(records: Sequence[Record]) -> Iterable[str]:
    """What was done, once for all rows of which it is said, and these rows."""
    rows: dict[str, dict[str, None]] = collections.defaultdict(dict)
    seeds: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for row, same in by_row(records).items():
        for record in same:
            seed = str(record["settings"].get("seed"))
            protocol = record["protocol"].replace(f"; seed {seed}", "; {seed}")
            rows[protocol][row] = seeds[protocol][seed] = None
    for protocol, having in rows.items():
        whose = "" if len(rows) == 1 else f"{'; '.join(having)}: "
        several = "seed" if len(seeds[protocol]) == 1 else "seeds"
        text = f"{several} {', '.join(seeds[protocol])}"
        yield f"- {whose}{protocol.replace('{seed}', text)}"


def _head(score: str) -> str:
    arrow = " ↓" if score in LOWER else " ↑" if score in HIGHER else ""
    return SHOWN[score] + arrow + " (1 is best)" * (score == "seam_ratio")


def _paper_lines(
    records: Sequence[Record], kind: str, scores: Sequence[str]
) -> list[str]:
    """The paper's rows, where the images are as many and as large.

    Its FID stands there only beside one against a reference: of the same images it is
    another number. Its seconds are of an NVIDIA TITAN RTX.
    """
    settings = records[0]["settings"]
    table = paper.TABLES.get(settings.get("data"), {})
    asked = settings.get("num_images"), settings.get("image_size")
    if asked != (paper.NUM_IMAGES, paper.SIZE) or kind not in paper.Row._fields:
        return []
    against = all(r["fid_reference"] != "the same images" for r in records)
    lines = []
    for name, row in table.items():
        known: dict[str, float] = dict(
            zip(paper.SCORES, getattr(row, kind), strict=True)
        )
        known["seconds_per_image"] = paper.SECONDS.get(name, math.nan)
        if not against:
            del known["fid"]
        known = {score: x for score, x in known.items() if not math.isnan(x)}
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
