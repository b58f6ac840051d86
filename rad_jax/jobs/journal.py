"""Rows of a manifest as they come, so that a worker that is killed loses none.

A Parquet file cannot grow. A worker writes its rows to a file of lines, after each
picture's results; when it ends they become a Parquet file, and if it is killed, those
who start next see to that. The system's lock on the file tells who is alive.
"""

import contextlib
import fcntl
import itertools
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rad_jax.errors import UserError
from rad_jax.files.atomic import resumable_writing
from rad_jax.files.bucket import AnyPath
from rad_jax.jobs.division import Division
from rad_jax.jobs.manifest import Row, read_columns, write_rows
from rad_jax.jobs.seen import Seen

_PREFIX, _SUFFIX = "_journal-", ".jsonl"
FAILED = "failed-"
"""How the names of files begin that hold rows without results."""


class Journal:
    """The manifest of pictures whose results are files each.

    Attributes:
        finished: sources that have results.
        kept: how many they are, of all workers.
        scratch: a folder for what is being written, which goes with the worker.
    """

    def __init__(self, folder: Path, division: Division):
        """Reads what is finished, also by workers that are gone, and begins a file.

        Raises:
            UserError: another worker has this number, or the folder cannot be written.
        """
        self._folder = folder
        # Which pictures failed is found out anew: they may have been mended.
        name = worker_name(division)
        self._failed = folder / f"{FAILED}{name}.parquet"
        self._name = f"{name}-{secrets.token_hex(4)}"
        self._path = folder / f"{_PREFIX}{self._name}{_SUFFIX}"
        self.scratch = _scratch(self._path)
        self._errors: list[Row] = []
        with resumable_writing(folder), _locked(folder):
            for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")):
                self._recover(path, name)
            self._failed.unlink(missing_ok=True)
            self._file = self._path.open("x", encoding="utf-8", buffering=1)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.scratch.mkdir()
        self.finished, self.kept = finished_of(folder)

    def add(self, row: Row) -> None:
        """Notes a picture whose results are written, or which has failed."""
        if row.status != "ok":
            self._errors.append(row)
            return
        with resumable_writing(self._folder):
            self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Makes a Parquet file of the rows, and one of those without results."""
        with resumable_writing(self._folder), self._file:
            if self._errors:
                write_rows(self._failed, self._errors, self.scratch)
            _to_parquet(self._path, self._folder / f"{self._name}.parquet")

    def _recover(self, path: Path, name: str) -> None:
        """The same for a worker that was killed; not for one that has just ended."""
        try:
            file = path.open("r+", encoding="utf-8")
        except FileNotFoundError:
            return
        with file:
            if _is_held(file):
                other = path.name[len(_PREFIX) : -len(_SUFFIX)]
                _refuse_twice(self._folder.parent, other, name)
                return
            if not path.exists():  # it ended before it was asked
                return
            stem = path.name[len(_PREFIX) : -len(_SUFFIX)]
            _to_parquet(path, self._folder / f"{stem}.parquet")


def worker_name(division: Division) -> str:
    """Of a worker, in the names of its files."""
    return f"{division.index:05d}-of-{division.count:05d}"


def finished_of(folder: AnyPath) -> tuple[Seen, int]:
    """Sources that have results by a folder's Parquet files, and how many they are.

    Raises:
        UserError: one cannot be read.
    """
    finished, count = Seen(), 0
    for path in sorted(folder.glob("*.parquet")):
        if not path.name.startswith(FAILED):
            for (source,) in read_columns(path, ["source"]):
                count += finished.add(source)
    return finished, count


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One worker starts at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "_lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_held(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _refuse_twice(output: Path, other: str, mine: str) -> None:
    """Two workers of one number, or of different divisions, would do work twice."""
    theirs = other.rpartition("-")[0]
    shard = "/".join(str(int(x)) for x in theirs.split("-of-"))
    if theirs == mine:
        raise UserError(
            f"{output}: another worker is at its part {shard}; wait until it ends, or "
            "give another --shard"
        )
    if theirs.partition("-of-")[2] != mine.partition("-of-")[2]:
        raise UserError(
            f"{output}: a worker is at its part {shard}; divide by as many, or wait "
            "until it ends"
        )


def _to_parquet(journal: Path, path: Path) -> None:
    """What is whole of a journal. A file that is there already has the same rows."""
    scratch = _scratch(journal)
    scratch.mkdir(exist_ok=True)
    rows = _rows(journal)
    if (first := next(rows, None)) is not None:
        write_rows(path, itertools.chain([first], rows), scratch)
    shutil.rmtree(scratch)
    journal.unlink()


def _scratch(journal: Path) -> Path:
    return journal.with_suffix(".parts")


def _rows(journal: Path) -> Iterator[Row]:
    """But for a last line that was cut short, or damaged ones: they are done again."""
    with journal.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                yield Row(*json.loads(line))
