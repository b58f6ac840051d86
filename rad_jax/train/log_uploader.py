"""What a run writes bit by bit, copied to its bucket where it has one."""

import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rad_jax.errors import first_line
from rad_jax.files.bucket import AnyPath, bucket_errors, copy_files, in_bucket
from rad_jax.runtime.distributed import say


class LogUploader:
    """A folder on this machine for what a run writes bit by bit; a context manager.

    It is the run's own folder, unless that lies in a bucket: then files are copied
    there by ``publish``, and at the end.

    Attributes:
      folder: where to write.
    """

    def __init__(self, workdir: AnyPath, growing: Iterable[str] = ()):
        """Fetches the files that a run continues to append to.

        Args:
          workdir: of the run.
          growing: names of files that a run continues, if they are there.

        Raises:
          UserError: the bucket cannot be reached, or not be written.
        """
        self._workdir = workdir
        self._published: dict[Path, tuple[int, int]] = {}
        if not in_bucket(workdir):
            self.folder = workdir
            return
        with bucket_errors(workdir):
            probe = workdir / f".{secrets.token_hex(8)}"
            probe.write_bytes(b"")
            probe.unlink()
        self._scratch = tempfile.TemporaryDirectory(prefix="rad_jax-")
        self.folder = Path(self._scratch.name) / workdir.name
        self.folder.mkdir()
        there = [path for name in growing if (path := workdir / name).exists()]
        copy_files(there, workdir, self.folder)

    def __enter__(self) -> "LogUploader":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Publishes the rest."""
        self.publish()
        if in_bucket(self._workdir):
            self._scratch.cleanup()

    def publish(self) -> None:
        """Copies what is new or has grown.

        What does not arrive now is named, and tried again the next time: a run does not
        end for want of its logs.
        """
        if not in_bucket(self._workdir):
            return
        seen = {
            path: ((stat := path.stat()).st_size, stat.st_mtime_ns)
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        new = [path for path, mark in seen.items() if self._published.get(path) != mark]
        try:
            copy_files(new, self.folder, self._workdir)
        except Exception as error:  # of many kinds, see `bucket_errors`
            say(f"{self._workdir}: the logs wait here ({first_line(error)[:200]})")
        else:
            self._published |= {path: seen[path] for path in new}
