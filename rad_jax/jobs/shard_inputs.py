"""The pictures of a shard and their masks; taken for hostile."""

import functools
from collections.abc import Iterator
from pathlib import Path

from rad_jax.errors import UserError, refuse
from rad_jax.jobs.archive_shard import read_archive
from rad_jax.jobs.shard_entry import Entry, Masks
from rad_jax.jobs.shard_kinds import ARRAY_RECORD, PARQUET, Columns
from rad_jax.jobs.table_shard import read_array_record, read_parquet


def read_shard(
    path: Path, name: str, kind: str, masks: Masks, columns: Columns
) -> Iterator[Entry]:
    """The pictures of a shard, in its order.

    Args:
        path: of this machine.
        name: what it is called.
        kind: one of `KINDS`.
        masks: where they are.
        columns: of tables and records.

    Raises:
        UserError: it is damaged, cut short, or has not what it should.
    """
    if kind in (PARQUET, ARRAY_RECORD):
        if masks.pattern:
            raise UserError(f"{name}: mask_pattern is for files; give --columns mask=X")
        read = read_parquet if kind == PARQUET else read_array_record
        entries = read(path, name, masks, columns)
    else:
        entries = read_archive(path, name, masks)
    ids: set[str] = set()
    for entry in entries:
        if entry.id in ids:
            text = f"{entry.source}: the shard has two of the id {entry.id}; rename one"
            entry = entry._replace(read=functools.partial(refuse, UserError(text)))
        ids.add(entry.id)
        yield entry
    if not ids:
        raise UserError(f"{name}: holds no picture")
