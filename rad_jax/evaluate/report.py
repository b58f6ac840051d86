"""``rad-jax report``: tables and plots of results of ``rad-jax evaluate``."""

import collections
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rad_jax.evaluate import paper
from rad_jax.evaluate.charts import figure, require_matplotlib, save_figure
from rad_jax.evaluate.plots import quality_panels, seed_panels
from rad_jax.evaluate.results import (
    COLUMNS,
    HIGHER,
    LOWER,
    Cells,
    Record,
    by_kind,
    read_results,
    table_cells,
)
from rad_jax.files.atomic import atomic_write

SAME = ("data", "split", "num_images", "image_size", "seed", "num_samples")
"""Settings in which the results of one table agree."""


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
                save_figure(figure(panels), picture)
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


def markdown(
    records: Sequence[Record],
    cells: Cells,
    pictures: Mapping[str, str],
) -> str:
    """One table for each kind of masks, what the numbers are of, and plots."""
    first = records[0]
    parts = []
    for kind, having in by_kind(cells).items():
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
