"""Results of the comparison of methods as Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ablation_tables import side
from benchmarks.methods import CASES, left
from benchmarks.prose import filled, source_of
from rad_jax.evaluate import paper
from rad_jax.evaluate.results import (
    COLUMNS,
    Cell,
    Record,
    by_row,
    evaluations,
    read_results,
    table_cells,
)

Kinds = Mapping[str, Mapping[str, Cell]]
"""By kind of masks and score."""

NAMES = {
    "score_sde": "Score-SDE",
    "ddrm": "DDRM",
    "repaint": "RePaint",
    "mcg": "MCG",
    "ddnm": "DDNM",
    "deqir": "DeqIR",
}


SPEED = "python benchmarks/method_speed.py"
ORACLE = "python benchmarks/method_oracle.py"


def oracle_text(record: Mapping[str, Any] | None) -> str:
    """The exact error of each method on Gaussian data."""
    if record is None:
        return f"Not measured yet (`{ORACLE}`)."
    counts = sorted(
        {row["evaluations"] for row in record["rows"] if row["method"] == "rad"}
    )
    names = {"rad": "RAD"} | NAMES
    parts = []
    for kind in ("box", "extreme"):
        lines = [
            f"| {kind}, evaluations at most | {' | '.join(map(str, counts))} | "
            "as published |",
            "|---|" + "---|" * (len(counts) + 1),
        ]
        for method, name in names.items():
            rows = [row for row in record["rows"] if row["method"] == method]
            fair = [row for row in rows if row["preset"] in ("", "fair")]
            cells = [_largest(fair, count, kind) for count in counts]
            lines.append(f"| {name} | {' | '.join(cells)} | {_published(rows, kind)} |")
        parts.append("\n".join(lines))
    text = (
        "2-Wasserstein distance between what a method makes and the true conditional "
        "distribution, root mean square over the data, relative to the conditional's "
        "spread: 0 is exact, and always giving the conditional mean is 1. In brackets "
        "the evaluations where they are fewer. Mended settings; the last "
        "column has the official ones. Images of "
        f"{record['size']} x {record['size']} Gaussian pixels with the ideal denoiser, "
        "known pixels a frame (box) or the middle quarter (extreme); MCG's rows are of "
        f"samples. {source_of(record)}"
    )
    return "\n\n".join([*parts, filled(text)])


def _largest(rows: list, most: int, kind: str) -> str:
    """The error at the most evaluations that a column allows."""
    allowed = [row for row in rows if row["evaluations"] <= most]
    if not allowed:
        return ""
    row = max(allowed, key=lambda row: row["evaluations"])
    count = row["evaluations"]
    return f"{row[kind]:.3f}" + (f" ({count})" if count < most else "")


def _published(rows: list, kind: str) -> str:
    published = [row for row in rows if row["preset"] == "published"]
    if not published:
        return ""
    row = published[0]  # its own number of steps comes first
    return f"{row[kind]:.3f} ({row['evaluations']})"


def speed_text(record: Mapping[str, Any] | None) -> str:
    """Seconds of each method, beside the paper's Table 2."""
    if record is None:
        return f"not measured (`{SPEED}`)"
    names = {"rad": "RAD"} | NAMES
    cases = [case for case in ("digits", "ffhq256") if case in record]
    titles = {"digits": "digits", "ffhq256": "FFHQ-256's network"}
    heads = [f"{titles[case]}: s / RAD's" for case in cases]
    lines = [
        f"| one evaluation | {' | '.join(heads)} |",
        "|---|" + "---|" * len(cases),
    ]
    for method, name in names.items():
        cells = [
            f"{row['seconds']:.3g} / {row['over_rad']:.2f}"
            for row in (record[case]["evaluation"][method] for case in cases)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    parts = ["\n".join(lines), _whole_table(record)]
    shares = ", ".join(
        f"{row['evaluations']:g} of {titles[case]}"
        for case, row in ((case, record[case]["evaluation"]["rad"]) for case in cases)
    )
    text = (
        f"An evaluation of MCG has its gradient in it. Timed in turns, evaluations at "
        f"once: {shares} (DeqIR's serially). Whole fillings are as published, timed on "
        "digits; on FFHQ-256's network they are evaluations times the seconds of one. "
        "DeqIR stops where it has converged, which with random weights is early: its "
        "evaluations are at most 375."
    )
    return "\n\n".join([*parts, filled(text)])


def _whole_table(record: Mapping[str, Any]) -> str:
    whole = record["digits"]["whole"]
    large = record.get("ffhq256", {}).get("evaluation", {})
    lines = [
        "| a filling, as published | evaluations | digits: s / RAD's 100 / RAD's 20 | "
        "FFHQ-256's network: s, computed | the paper's Table 2: s / RAD's |",
        "|---|---|---|---|---|",
    ]
    for row, found in whole.items():
        method = row.split(",")[0]
        name = row.replace("rad", "RAD") if method == "rad" else NAMES[row]
        counts = f"{found['forward']:,}"
        if found["backward"]:
            counts += f" + {found['backward']:,} backward"
        of_one = large.get(method, {}).get("seconds")
        computed = "" if of_one is None else f"{of_one * found['forward']:,.0f}"
        seconds = paper.SECONDS.get("RAD" if row == "rad, 100" else name)
        theirs = (
            ""
            if seconds is None
            else f"{seconds:g} / {seconds / paper.SECONDS['RAD']:.2f}"
        )
        ours = (
            f"{found['seconds']:.3g} / {found['over_rad_100']:.2f} / "
            f"{found['over_rad_20']:.2f}"
        )
        lines.append(f"| {name} | {counts} | {ours} | {computed} | {theirs} |")
    return "\n".join(lines)


RADS = ("RAD by LoRA", "RAD in full")
SCORES = ("frechet_classifier", "energy_hole", "accuracy", "psnr_hole")

MORE = 1.1
"""Evaluations of the RAD that a method stands beside, over its own, at most."""


def quality_text(docs: Path) -> str:
    """Who is ahead on digits, and the report."""
    report = docs / "methods" / "report.md"
    if not report.exists():
        return "Not run yet (`python benchmarks/methods.py`)."
    records = read_results([docs / "results" / "methods"])
    tables = report.read_text().strip().replace("](", "](methods/")
    rows = left(CASES["digits"], docs / "results" / "methods")
    missing = [row.folder for row in rows]
    text = f"Not run yet: {', '.join(missing)}." if missing else "All rows are run."
    return "\n\n".join([verdicts(records), filled(text), tables])


def photos_text(docs: Path) -> str:
    """The report on photographs, of one seed: no verdicts."""
    command = "`python benchmarks/methods.py --case photos64`"
    results, report = docs / "results" / "photos64", docs / "photos64" / "report.md"
    if not report.exists():
        return f"Not run yet ({command})."
    case = CASES["photos64"]
    missing = [row.folder for row in left(case, results)]
    first = read_results([results])[0]["measured"]
    text = (
        f"{case.images} photographs of 64x64 pixels, {case.samples} samples each, one "
        "seed, brackets over photographs; a small network, trained for an hour on "
        f"few: it makes textures, no objects. {command} on {first['hardware']}, "
        f"{first['date']}."
    )
    if missing:
        text += f" Not run yet: {', '.join(missing)}."
    text += f" {_less_training(docs)}"
    tables = report.read_text().strip().replace("](", "](photos64/")
    return f"{filled(text)}\n\n{tables}"


def _less_training(docs: Path) -> str:
    """What more training of RAD did, if it was evaluated after less of it."""
    parts = []
    for folder in sorted((docs / "results" / "photos64_1000").glob("RAD*")):
        [less] = read_results([folder])
        [more] = read_results([docs / "results" / "photos64" / folder.name])
        before, after = (
            [kind["energy_hole"]["mean"] for kind in record["masks"].values()]
            for record in (less, more)
        )
        scores = ", ".join(
            f"{a:.3f} to {b:.3f} ({kind})"
            for a, b, kind in zip(before, after, less["masks"], strict=True)
        )
        parts.append(f"{more['name']} from {scores}")
    if not parts:
        return ""
    return (
        "With 2500 steps of RAD's training instead of 1000 the energy score fell: "
        f"{'; '.join(parts)}."
    )


def verdicts(records: Sequence[Record]) -> str:
    """Where each method lies beyond all seeds of RAD with as many evaluations."""
    cells, rows = table_cells(records), by_row(records)
    lines = [
        "| evaluations | seeds | beside | better than RAD | worse than RAD |",
        "|---|---|---|---|---|",
    ]
    of_rad = {
        name: {
            evaluations(same[0]): row for row, same in rows.items() if _of(name, row)
        }
        for name in RADS
    }
    for row, same in rows.items():
        if any(_of(name, row) for name in RADS):
            continue
        for steps in of_rad.values():
            as_many = [n for n in steps if n <= MORE * evaluations(same[0])]
            if as_many:
                beside = steps[max(as_many)]
                better, worse = (
                    _listed(cells[row], cells[beside], sign) for sign in (1, -1)
                )
                shown = row, str(len(same)), beside, better, worse
                lines.append(f"| {' | '.join(shown)} |")
    first = records[0]["measured"]
    text = (
        "Named where the ranges over seeds do not overlap (of one seed its value, "
        "which says less); the number after a name is that of its evaluations, "
        "backward ones among them; beside each method stands the RAD with the most "
        "evaluations that are at most a tenth more. "
        f"`python benchmarks/methods.py` on {first['hardware']}, {first['date']}."
    )
    return "\n".join([*lines, "", filled(text)])


def _listed(one: Kinds, other: Kinds, sign: int) -> str:
    """Scores and kinds of masks in which one is better, or with -1 worse."""
    parts = []
    for score in SCORES:
        kinds = [k for k in one if side(score, one[k][score], other[k][score]) == sign]
        if kinds:
            parts.append(f"{COLUMNS[score]}: {', '.join(kinds)}")
    return "; ".join(parts)


def _of(name: str, row: str) -> bool:
    return row == name or row.startswith(f"{name}, ")
