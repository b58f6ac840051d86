"""What `chip_programs.py` and `train_memory.py` found, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.prose import filled
from benchmarks.train_memory import experiment_of
from rad_jax.chips.slices import find_slice
from rad_jax.runtime.sharding import abstract_mesh
from rad_jax.train.plan import make_plan

COMMAND = "python benchmarks/chip_programs.py"
BUILT = "as it is built"
VERBS = {"fill": "filling", "train": "training"}

Row = Mapping[str, Any]


def rows_of(records: Iterable[Mapping[str, Any] | None]) -> list[Row]:
    """All rows of several results, of which some may be missing."""
    return [row for record in records if record for row in record["rows"]]


def changes_text(records: Sequence[Mapping[str, Any] | None]) -> str:
    """What programs were before, and what each change of them gives."""
    rows = rows_of(records)
    cases = [
        (row["topology"], row["program"], row["config"], row["batch"])
        for row in rows
        if row["change"] != BUILT
    ]
    if not cases:
        return f"Not compiled yet (`{COMMAND} --changes all`)."
    lines = [
        "| chip | program | images | instead of what is built | GB of main memory "
        "| ms by the roofline | Mcycles | images/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(cases):
        same = [row for row in rows if _case(row) == case]
        [built] = [row for row in same if row["change"] == BUILT]
        topology, program, config, batch = case
        for row in (built, *(row for row in same if row is not built)):
            what = f"**{BUILT}**" if row is built else row["change"]
            lines.append(
                f"| {topology} | {VERBS[program]}, {config} | {batch} | {what} "
                f"| {row['step_main'] / 1e9:.2f} | {_ms(row['roofline_seconds'])} "
                f"| {_mcycles(row)} | {_rate(row)} |"
            )
    return "\n".join([*lines, "", filled(f"A step each. {_source(rows)}")])


def chips_text(records: Sequence[Mapping[str, Any] | None]) -> str:
    """Every program as it is built: memory, communication, time at most."""
    rows = [row for row in rows_of(records) if row["change"] == BUILT]
    if not rows:
        return f"Not compiled yet (`{COMMAND}`)."
    lines = [
        "| chips | program | images | memory of a device | TFLOP | GB | communication "
        "| ms by the roofline | MFU at most | ms by the compiler | images/s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (*_case(row)[1:3], row["batch"])):
        chip = find_slice(row["topology"]).chip
        there = chip.memory / chip.devices / 2**30
        cycles = row["cycles_seconds"]
        lines.append(
            f"| {row['topology']} | {VERBS[row['program']]}, {row['config']} "
            f"| {row['batch']} | {row['total'] / 2**30:.2f} of {there:.0f} GiB "
            f"| {row['flops_of_the_network'] / 1e12:.2f} "
            f"| {row['step_main'] / 1e9:.1f} | {_communication(row)} "
            f"| {_ms(row['roofline_seconds'])} | {row['mfu_at_most']:.0%} "
            f"| {_ms(cycles) if cycles else '-'} | {_rate(row)} |"
        )
    return "\n".join([*lines, "", filled(_source(rows))])


def memory_text(record: Mapping[str, Any] | None) -> str:
    """Memory of training steps beside what the plan expects."""
    if record is None:
        return "Not compiled yet (`python benchmarks/train_memory.py`)."
    lines = [
        "| config | images | recomputed | compiled, GiB | expected, GiB | over |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(record["rows"], key=_memory_case):
        if "temporaries" not in row:
            continue
        plan = make_plan(experiment_of(row), abstract_mesh(1, 1))
        more = f"{plan.device / row['total'] - 1:+.0%}"
        if plan.device > find_slice(row["topology"]).chip.memory:
            more = "made to fit"
        lines.append(
            f"| {row['config']} | {row['batch']} "
            f"| {'blocks' if row['use_remat'] else '-'} "
            f"| {row['total'] / 2**30:.2f} | {plan.device / 2**30:.2f} "
            f"| {more} |"
        )
    machine = record["rows"][-1]["measured"]
    text = (
        f"For one {record['rows'][-1]['topology']}, in bfloat16. `python "
        f"benchmarks/train_memory.py` on {machine['hardware']}, jax "
        f"{machine['versions']['jax']}, {machine['date']}."
    )
    return "\n".join([*lines, "", filled(text)])


def _memory_case(row: Row) -> tuple[str, bool, int]:
    return row["config"], row["use_remat"], row["batch"]


def _case(row: Row) -> tuple[str, str, str, int]:
    return row["topology"], row["program"], row["config"], row["batch"]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


def _mcycles(row: Row) -> str:
    return f"{row['step_cycles'] / 1e6:.1f}" if row["step_cycles"] else "-"


def _rate(row: Row) -> str:
    """Images a second, by the compiler's cycles where there are any."""
    seconds = row["cycles_seconds"] or row["roofline_seconds"]
    steps = 100 if row["program"] == "fill" else 1
    return f"{row['batch'] / seconds / steps:.3g}"


def _communication(row: Row) -> str:
    found = [
        f"{x['count']} {x['kind']}, {x['size'] / 1e6:.3g} MB"
        for x in row["collectives"]
    ]
    return "; ".join(found) or "-"


def _source(rows: Sequence[Row]) -> str:
    """Where from: the last row's machine, and all dates."""
    machine = rows[-1]["measured"]
    dates = sorted({row["measured"]["date"] for row in rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"`{COMMAND}` on {machine['hardware']}, jax {machine['versions']['jax']}, "
        f"{when}; every row names its command in docs/results/chip_programs_*.json."
    )
