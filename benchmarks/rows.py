"""A benchmark's rows: one or more for each config, type of numbers and batch."""

import argparse
import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.measured import measured, store

DTYPES = {"cpu": ("float32",), "gpu": ("float32", "bfloat16")}

Row = dict[str, Any]


def flags(
    description: str | None, cases: Mapping[str, Sequence[int]], rounds: int = 5
) -> argparse.ArgumentParser:
    """What to measure: configs, images at once, rounds; by default what is given."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cases", nargs="+", default=list(cases))
    parser.add_argument("--batches", nargs="+", type=int, help="of every case")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES[jax.default_backend()])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.set_defaults(batches_of=cases)
    return parser


def run(
    args: argparse.Namespace,
    measures: Callable[[Row], Iterator[tuple[Row, Callable[[], Row]]]],
    say: Callable[[Row], None],
    *,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Measures, prints and writes, row by row.

    Args:
      args: of `flags`.
      measures: for "case", "dtype" and "batch", the rows as they begin, and what
        measures the rest of each.
      say: prints a row.
      versions: of further packages that take part.
    """
    record: dict[str, Any] = {"measured": measured(), "rows": []}
    record["measured"]["versions"] |= versions or {}
    for case in args.cases:
        for dtype in args.dtypes:
            for batch in args.batches or args.batches_of.get(case, (1,)):
                start = {"case": case, "dtype": dtype, "batch": batch}
                for row, measure in measures(start):
                    with memory_may_end(row):
                        row |= measure()
                    record["rows"].append(row)
                    say(row)
                    store(args.output, record)


@contextlib.contextmanager
def memory_may_end(row: Row) -> Iterator[None]:
    """Notes that it did, and goes on."""
    try:
        yield
    except Exception as error:  # PyTorch's, or JAX's
        text = str(error).lower()
        if "out of memory" not in text and "resource_exhausted" not in text:
            raise
        row["out_of_memory"] = True
    gc.collect()
