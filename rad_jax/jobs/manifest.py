"""What became of every picture, a row each, in Parquet files beside the results."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.parquet

from rad_jax.errors import UserError, first_line
from rad_jax.files.atomic import atomic_write
from rad_jax.files.bucket import AnyPath
from rad_jax.inference.canvas import Outcome
from rad_jax.inference.picture_fill import sample_seed

FOLDER = "manifest"
"""In the output's folder; `pyarrow.parquet.read_table` reads it whole."""


MOST_ROWS = 2**14
"""That are put into a file, and into memory, at once."""


class Row(NamedTuple):
    """What a manifest says of a picture.

    Attributes:
        id: what its results are named by, and its noise comes from.
        source: its file, below the folder or in the shard.
        status: "ok" or "error".
        error: why there is no result; "" if there is.
        seed: of its first result.
        hole: share of the picture that was filled, 0 to 1.
        strategy: of its regions, such as "whole" or "crop, tile"; "" without a hole.
        scale: of the region that was scaled down most.
        seconds: of decoding, of its share of the device's work, and of encoding.
        model: fingerprint of the model.
    """

    id: str
    source: str
    status: str
    error: str
    seed: int
    hole: float
    strategy: str
    scale: float
    seconds: float
    model: str


_TYPES = {int: pyarrow.uint32(), float: pyarrow.float32(), str: pyarrow.string()}
SCHEMA = pyarrow.schema(
    [(name, _TYPES[kind]) for name, kind in Row.__annotations__.items()]
)


def row_of(outcome: Outcome, name: str, source: str, seed: int, model: str) -> Row:
    """The row of a picture.

    Args:
        outcome: what has become of it.
        name: its id.
        source: its file.
        seed: of the job.
        model: fingerprint of the model.
    """
    return Row(
        name,
        source,
        "error" if outcome.error else "ok",
        str(outcome.error or ""),
        sample_seed(seed, name, 0),
        outcome.share,
        ", ".join(outcome.strategies),
        outcome.scale,
        outcome.seconds,
        model,
    )


def write_rows(path: Path, rows: Iterable[Row], scratch: Path | None = None) -> None:
    """Writes a Parquet file, whole or not at all; ``scratch`` as of `atomic_write`.

    Raises:
        UserError: it cannot be written.
    """
    left = iter(rows)
    with (
        atomic_write(path, scratch) as part,
        pyarrow.parquet.ParquetWriter(part, SCHEMA) as file,
    ):
        while some := list(itertools.islice(left, MOST_ROWS)):
            columns = {
                name: [_text(row[i]) for row in some]
                for i, name in enumerate(Row._fields)
            }
            file.write_table(pyarrow.Table.from_pydict(columns, SCHEMA))


def _text(value: str | int | float) -> str | int | float:
    """Names of files need not be Unicode; Parquet's strings are."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def read_columns(path: AnyPath, columns: Sequence[str]) -> Iterator[tuple]:
    """Some columns of a Parquet file, row by row.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file, pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(columns=list(columns)):
                yield from zip(*(x.to_pylist() for x in batch.columns), strict=True)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(
            f"{path}: cannot be read ({first_line(error)}); choose another output"
        ) from error


def failures(paths: Iterable[AnyPath]) -> int:
    """How many pictures have no result, by these files."""
    return sum(
        status != "ok" for path in paths for (status,) in read_columns(path, ["status"])
    )
