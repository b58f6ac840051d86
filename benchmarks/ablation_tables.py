"""Results of the ablation as Markdown: what differs, and the tables of `report`."""

from collections.abc import Sequence
from pathlib import Path

from rad_jax.evaluate.results import (
    COLUMNS,
    LOWER,
    Cell,
    Record,
    read_results,
    table_cells,
)

BASE = "RAD"
SCORES = ("frechet_classifier", "accuracy", "psnr_hole")

COMMAND = "python benchmarks/ablation.py"
MISSING = f"Not run yet (`{COMMAND}`)."


def ablation_text(docs: Path) -> str:
    """A verdict on each variant, and the report's tables and plot."""
    report = docs / "ablation" / "report.md"
    if not report.exists():
        return MISSING
    records = read_results([docs / "results" / "ablation"])
    tables = report.read_text().strip().replace("](", "](ablation/")
    return f"{verdicts(records)}\n\n{tables}"


def verdicts(records: Sequence[Record]) -> str:
    """Where each variant lies beyond all seeds of RAD, or RAD beyond all of its."""
    cells = table_cells(records)
    lines = [
        f"| | seeds | better than {BASE} | worse than {BASE} |",
        "|---|---|---|---|",
    ]
    base = cells[BASE]
    for name, found in cells.items():
        if name == BASE:
            continue
        better, worse = [], []
        for score in SCORES:
            apart = {k: side(score, found[k][score], base[k][score]) for k in base}
            better += _listed(score, [k for k, x in apart.items() if x > 0])
            worse += _listed(score, [k for k, x in apart.items() if x < 0])
        seeds = max(cell.count for k in found.values() for cell in k.values())
        lines.append(f"| {name} | {seeds} | {'; '.join(better)} | {'; '.join(worse)} |")
    first = records[0]
    machine = first["measured"]
    lines += [
        "",
        "Named where the intervals over seeds do not overlap: of variants that are "
        f"alike, three seeds each, one in ten would be. {first['training_steps']} "
        "steps of training each.",
        f"`{COMMAND}` on {machine['hardware']}, {machine['date']}.",
    ]
    return "\n".join(lines)


def side(score: str, one: Cell, other: Cell) -> int:
    """1 where the first is better than the second in all seeds, -1 worse, else 0."""
    sign = -1 if score in LOWER else 1
    if _ends(one)[0] > _ends(other)[1]:
        return sign
    return -sign if _ends(one)[1] < _ends(other)[0] else 0


def _ends(cell: Cell) -> tuple[float, float]:
    """The least and the greatest over seeds; of one seed it is the same."""
    if cell.count == 1 or cell.low is None or cell.high is None:
        return cell.mean, cell.mean
    return cell.low, cell.high


def _listed(score: str, kinds: Sequence[str]) -> list[str]:
    return [f"{COLUMNS[score]}: {', '.join(kinds)}"] if kinds else []
