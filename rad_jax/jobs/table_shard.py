"""The pictures and masks of Parquet and ArrayRecord files."""

import functools
import itertools
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from array_record.python.array_record_module import ArrayRecordReader

from rad_jax.data.image_file import check_bytes
from rad_jax.errors import UserError, first_line
from rad_jax.files.file_bytes import AnyFile, FileBytes
from rad_jax.jobs.shard_entry import Entry, Files, Masks, damaged
from rad_jax.jobs.shard_kinds import Columns

MOST_ROW_GROUP = 2**32
"""Bytes of the columns that we read, unpacked: a row group is read at once."""

ROWS = 16
"""Of a table that are read at once."""


def read_parquet(
    path: Path, name: str, masks: Masks, columns: Columns
) -> Iterator[Entry]:
    """The pictures of a Parquet file, row by row.

    Args:
        path: of this machine.
        name: what it is called.
        masks: where they are.
        columns: where it has what.

    Raises:
        UserError: it is damaged, has no such columns, or rows too large to read.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            wanted = _wanted(table.schema_arrow.names, name, masks, columns)
            _require_small(table.metadata, wanted, name)
            number = itertools.count()
            for batch in table.iter_batches(ROWS, columns=wanted):
                for row in batch.to_pylist():
                    i = next(number)
                    own = row.get(columns.id)
                    source = f"{name}/{i if own is None else own}"
                    image, mask = row[columns.image], row.get(columns.mask)
                    read = functools.partial(
                        row_files, image, mask, source, masks, path.parent
                    )
                    yield Entry(row_id(own, name, i), source, read)
    except (OSError, pyarrow.ArrowException) as error:
        raise damaged(name, first_line(error)) from error


def _wanted(there: list[str], name: str, masks: Masks, columns: Columns) -> list[str]:
    """Columns that are read.

    Raises:
        UserError: one is missing.
    """
    needed = [columns.image]
    if masks.own and masks.file is None:
        needed.append(columns.mask)
    for column in needed:
        if column not in there:
            raise UserError(
                f"{name}: has no column {column!r}, but {', '.join(there[:20])}; say "
                "which by --columns image=X,mask=Y,id=Z"
            )
    return needed + [columns.id] * (columns.id in there)


def _require_small(metadata: Any, wanted: list[str], name: str) -> None:
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        chunks = map(row_group.column, range(row_group.num_columns))
        size = sum(
            chunk.total_uncompressed_size
            for chunk in chunks
            if chunk.path_in_schema.partition(".")[0] in wanted
        )
        if size > MOST_ROW_GROUP:
            raise UserError(
                f"{name}: a row group has {size >> 30} GiB; write smaller ones"
            )


def row_id(own: Any, name: str, number: int) -> str:
    """The id of a row of a table: its own, or else the table's name and a number."""
    if own is None:
        return f"{Path(name).name.partition('.')[0]}/{number:08d}"
    return own.decode("utf-8", "backslashreplace") if type(own) is bytes else str(own)


def row_files(
    image: Any, mask: Any, source: str, masks: Masks, folder: Path | None
) -> Files:
    """The picture and the mask of a row.

    Args:
        image: a file's bytes, its path, or a dict of both.
        mask: the same.
        source: what errors call the row.
        masks: where they are.
        folder: that paths lie below; None where there can be no paths.

    Raises:
        UserError: the row has not what it should.
    """
    found = _cell(image, source, "image", folder)
    if masks.file is not None or not masks.own:
        return found, masks.file
    return found, _cell(mask, source, "mask", folder)


def _cell(value: Any, source: str, column: str, folder: Path | None) -> AnyFile:
    """The file in a table: bytes, a path below the table's folder, or a dict of both.

    Raises:
        UserError: it is none of these, or the path leads elsewhere.
    """
    if isinstance(value, dict):  # as Hugging Face's data sets have it
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        check_bytes(source, len(value))
        return FileBytes(source if column == "image" else f"{source} mask", value)
    if folder is None or not isinstance(value, str):
        kind = "nothing" if value is None else type(value).__name__
        raise UserError(f"{source}: has {kind} as its {column}; give a file's bytes")
    if posixpath.isabs(value) or ".." in Path(value).parts:
        raise UserError(
            f"{source}: its {column} is {value!r}; give a path below the table's folder"
        )
    path = folder / value
    if path.is_file():
        check_bytes(source, path.stat().st_size)
    return path


def read_array_record(
    path: Path, name: str, masks: Masks, columns: Columns
) -> Iterator[Entry]:
    """The same of the ``tf.Example`` messages of an ArrayRecord file."""
    # It imports TFDS, which takes seconds.
    from rad_jax.data.records import parse_example

    try:
        reader = ArrayRecordReader(str(path))
        try:
            for i in range(reader.num_records()):
                features = parse_example(reader.read([i])[0])
                own = _first(features, columns.id)
                source = f"{name}/{i if own is None else row_id(own, name, i)}"
                if i == 0:
                    _wanted(list(features), name, masks, columns)
                image, mask = (_first(features, x) for x in columns[:2])
                read = functools.partial(
                    row_files, image, mask, source, masks, path.parent
                )
                yield Entry(row_id(own, name, i), source, read)
        finally:
            reader.close()
    except (RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise damaged(name, first_line(error)) from error


def _first(features: Any, name: str) -> Any:
    """The one value of a feature; None if there is none."""
    if name not in features:
        return None
    feature = features[name]
    for kind in (feature.bytes_list, feature.int64_list):
        if kind.value:
            return kind.value[0]
    return None
