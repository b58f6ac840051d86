"""A shard of results: it grows in a file of its own, and is written whole at its end.

Results come in any order; the shard has that of its input, so that the same job gives
the same bytes however often it was stopped.
"""

import contextlib
import io
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.parquet
from array_record.python.array_record_module import ArrayRecordWriter

from rad_jax.files.atomic import atomic_write, resumable_writing
from rad_jax.jobs.shard_kinds import ARRAY_RECORD, PARQUET, TAR
from rad_jax.prepare.tf_example import encode_example

ROWS = 64
"""Of a table that are written at once."""

_DATE = (1980, 1, 1, 0, 0, 0)  # zip's first; the same bytes every time


class _Stored(NamedTuple):
    id: str
    sample: int
    name: str
    offset: int
    size: int


class ShardOutput:
    """The results of a shard so far; threads may add to it at once."""

    def __init__(self, path: Path):
        """Of a shard that will be written here."""
        self._path = path
        self._lock = threading.Lock()
        self._stored: dict[tuple[int, int], _Stored] = {}
        with resumable_writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # On the same disk: what fits here fits there.
            self._file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115

    def add(
        self, position: int, name: str, files: list[str], encoded: list[bytes]
    ) -> None:
        """Takes the results of a picture.

        Args:
            position: of the picture in its shard.
            name: its id.
            files: names of the results.
            encoded: their bytes.

        Raises:
            UserError: the disk is full.
        """
        with resumable_writing(self._path), self._lock:
            for sample, data in enumerate(encoded):
                offset = self._file.seek(0, io.SEEK_END)
                self._file.write(data)
                stored = _Stored(name, sample, files[sample], offset, len(data))
                self._stored[position, sample] = stored

    def finish(self, kind: str, *, samples: bool) -> None:
        """Writes the shard, whole or not at all.

        Args:
            kind: one of `KINDS`.
            samples: a picture has several, and a table a column for their number.

        Raises:
            UserError: it cannot be written.
        """
        with atomic_write(self._path) as part:
            if kind == PARQUET:
                self._write_parquet(part, samples)
            elif kind == ARRAY_RECORD:
                self._write_array_record(part, samples)
            elif kind == TAR:
                self._write_tar(part)
            else:
                self._write_zip(part)
        self.close()

    def close(self) -> None:
        """Drops what there is."""
        with contextlib.suppress(OSError):  # a full disk, where it is written out
            self._file.close()

    def _ordered(self) -> Iterator[tuple[_Stored, bytes]]:
        for key in sorted(self._stored):
            stored = self._stored[key]
            self._file.seek(stored.offset)
            yield stored, self._file.read(stored.size)

    def _write_tar(self, path: Path) -> None:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            for stored, data in self._ordered():
                info = tarfile.TarInfo(stored.name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    def _write_zip(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:  # pictures are packed already
            for stored, data in self._ordered():
                archive.writestr(zipfile.ZipInfo(stored.name, _DATE), data)

    def _write_parquet(self, path: Path, samples: bool) -> None:
        columns = [("id", pyarrow.string())]
        columns += [("sample", pyarrow.int32())] * samples
        schema = pyarrow.schema([*columns, ("image", pyarrow.binary())])
        rows: list[dict[str, str | int | bytes]] = []
        with pyarrow.parquet.ParquetWriter(path, schema, compression="none") as writer:
            for stored, data in self._ordered():
                row = {"id": stored.id, "sample": stored.sample, "image": data}
                rows.append(row)
                if len(rows) == ROWS:
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                    rows.clear()
            if rows:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))

    def _write_array_record(self, path: Path, samples: bool) -> None:
        writer = ArrayRecordWriter(str(path), "group_size:1")
        try:
            for stored, data in self._ordered():
                features: dict[str, bytes | int] = {
                    "id": stored.id.encode("utf-8", "backslashreplace"),
                    "image": data,
                }
                if samples:
                    features["sample"] = stored.sample
                writer.write(encode_example(features))
            writer.close()
        except RuntimeError as error:  # its only kind of error
            raise OSError(None, str(error)) from error
