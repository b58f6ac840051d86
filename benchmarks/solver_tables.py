"""Results of the comparison of solvers as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.prose import filled

Row = Mapping[str, Any]

MISSING = "Not measured yet (`python benchmarks/solvers.py`)."


def solvers_text(record: Mapping[str, Any] | None) -> str:
    """What every sampler and grid reaches, and what to use."""
    if record is None:
        return MISSING
    oracle, digits = record["oracle"]["rows"], record["digits"]["rows"]
    of_gaussian = {_key(row): row for row in oracle}
    of_digits = {_key(row): row for row in digits}
    machine = record["measured"]
    best = [
        (of_gaussian[_key(row)], of_digits[_key(row)]) for row in record["recommended"]
    ]
    default = _key(record["default"])
    told = 2 * np.median([row["behind_default"]["standard_error"] for row in digits])
    count, samples = record["digits"]["images"], record["digits"]["samples"]
    protocol = (
        f"Error on the Gaussian / energy score on {count} held-out digits ({samples} "
        "samples of each under three kinds of masks, with the same random keys for all "
        "samplers). A difference between two energy scores below about "
        f"{told:.3f}, two standard errors, may be chance."
    )
    rule = (
        "The rule: of those behind the best of as many steps on digits by at most "
        "two standard errors of the difference, the smallest error on the Gaussian. "
        "The last line is the default. Accuracy, error and diversity are the demo's, "
        "means over the masks; samples of the true distribution are as diverse as they "
        "are wrong."
    )
    same = (
        f"{_same(best, (of_gaussian[default], of_digits[default]))} "
        f"`{machine['command']}` on {machine['hardware']}, {machine['date']}."
    )
    return "\n\n".join(
        [
            _everything(of_gaussian, of_digits),
            filled(protocol),
            "![Both measures against the steps](solvers.png)",
            _recommended([*best, (of_gaussian[default], of_digits[default])]),
            filled(rule),
            filled(same),
        ]
    )


def _everything(of_gaussian: Mapping, of_digits: Mapping) -> str:
    steps = sorted({count for _, _, count in of_gaussian})
    lines = [
        ["sampler", "grid", *map(str, steps)],
        ["---"] * (2 + len(steps)),
    ]
    for sampler, grid in dict.fromkeys(key[:2] for key in of_gaussian):
        cells = []
        for count in steps:
            cell = f"{of_gaussian[sampler, grid, count]['error']:.1%}"
            measured = of_digits.get((sampler, grid, count))
            cells.append(
                f"{cell} / {measured['energy_score']:.4f}" if measured else cell
            )
        lines.append([sampler, f"`{grid}`", *cells])
    return _table(lines)


def _recommended(pairs: Sequence[tuple[Row, Row]]) -> str:
    head = ("steps", "sampler", "grid", "error on the Gaussian", "energy score")
    more = ("behind the best", "accuracy", "error in the hole", "diversity")
    lines = [[*head, *more], ["---"] * len(head + more)]
    for exact, row in pairs:
        behind = row["behind"]
        lines.append(
            [
                str(row["steps"]),
                row["sampler"],
                f"`{row['grid']}`",
                f"{exact['error']:.1%}",
                f"{row['energy_score']:.4f}",
                f"{behind['mean']:.4f} ± {behind['standard_error']:.4f}",
                *(
                    f"{np.mean([x[name] for x in row['masks'].values()]):.3f}"
                    for name in ("accuracy_inpainted", "hole_rmse", "diversity")
                ),
            ]
        )
    return _table(lines)


def _same(best: Sequence[tuple[Row, Row]], default: tuple[Row, Row]) -> str:
    """The fewest recommended steps that do as well as the default."""
    exact_default = default[0]
    for exact, row in best:
        behind = row["behind_default"]
        if (
            exact["steps"] < exact_default["steps"]
            and exact["error"] <= exact_default["error"]
            and behind["mean"] <= 2 * behind["standard_error"]
        ):
            return (
                f"Of these, {row['steps']} steps are the fewest that are no worse than "
                f"the default on the Gaussian ({exact['error']:.1%} off beside "
                f"{exact_default['error']:.1%}) and as good on digits (behind "
                f"by {behind['mean']:.4f} ± {behind['standard_error']:.4f})."
            )
    return "With fewer steps than the default's none of these is as good on both."


def _key(row: Row) -> tuple[str, str, int]:
    return row["sampler"], row["grid"], row["steps"]


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        f"| {' | '.join(cells)} |".replace("| --- ", "|---") for cells in lines
    )
