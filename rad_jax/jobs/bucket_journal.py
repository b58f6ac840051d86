"""The manifest of pictures whose results are objects of a bucket.

There a file does not grow: rows become a Parquet file when there are many, and at the
end. A worker that is killed loses those that it still had: these pictures are done
again, to the same bytes. There are no locks: that two workers have one number is not
noticed.
"""

import secrets

from rad_jax.files.bucket import AnyPath, bucket_errors
from rad_jax.jobs.division import Division
from rad_jax.jobs.journal import FAILED, finished_of, worker_name
from rad_jax.jobs.manifest import Row, write_rows
from rad_jax.jobs.transfer import published

MOST_ROWS = 1000
"""That a worker holds, and loses if it is killed."""


class BucketJournal:
    """As `Journal`.

    Attributes:
        finished: sources that have results.
        kept: how many they are, of all workers.
    """

    def __init__(self, folder: AnyPath, division: Division):
        """Reads what is finished.

        Raises:
            UserError: the folder cannot be read or written.
        """
        name = worker_name(division)
        self._folder, self._name = folder, f"{name}-{secrets.token_hex(4)}"
        self._failed = folder / f"{FAILED}{name}.parquet"
        self._rows: list[Row] = []
        self._errors: list[Row] = []
        self._parts = 0
        with bucket_errors(folder):
            # Which pictures failed is found out anew: they may have been mended.
            self._failed.unlink(missing_ok=True)
            self.finished, self.kept = finished_of(folder)

    def add(self, row: Row) -> None:
        """Notes a picture whose results are written, or which has failed."""
        (self._rows if row.status == "ok" else self._errors).append(row)
        if len(self._rows) >= MOST_ROWS:
            self._write()

    def close(self) -> None:
        """Writes the rest."""
        self._write()
        if self._errors:
            with published(self._failed) as path:
                write_rows(path, self._errors)

    def _write(self) -> None:
        if self._rows:
            name = f"{self._name}-{self._parts:05d}.parquet"
            with published(self._folder / name) as path:
                write_rows(path, self._rows)
            self._rows, self._parts = [], self._parts + 1
