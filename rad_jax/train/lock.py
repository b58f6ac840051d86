"""One run at a time in a workdir.

Not by filelock: before 3.30 it empties the file, which loses the holder's name, and may
take a file system without locks for another run; since then it saves two lines.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator

from rad_jax.errors import UserError
from rad_jax.files.atomic import resumable_writing
from rad_jax.files.bucket import AnyPath, in_bucket
from rad_jax.runtime.distributed import is_main, say


@contextlib.contextmanager
def lock(workdir: AnyPath) -> Iterator[None]:
    """Holds ``WORKDIR/lock``; the system lets go of it when the process ends.

    Raises:
      UserError: another run holds it, or the folder cannot be written.
    """
    if not is_main():  # its run's first process holds it
        yield
        return
    if in_bucket(workdir):
        say(f"{workdir}: a bucket has no lock; start no second run there")
        yield
        return
    with resumable_writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / "lock").open("a+b", buffering=0)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().decode().strip()
            raise UserError(
                f"{workdir}: is used by another run ({holder}); wait until it ends, or "
                "use another --workdir"
            ) from error
        except OSError as error:  # some network file systems have no locks
            say(f"{workdir}: no lock here ({error.strerror}); start no second run")
        with resumable_writing(workdir):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
