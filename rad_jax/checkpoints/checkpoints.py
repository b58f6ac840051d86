"""Checkpoints of a run: Orbax, each written whole or not at all, the latest few kept.

``WORKDIR/checkpoints/<step>/`` holds separate items, pytrees of arrays ("params",
"ema", "optimizer") and JSON records ("data", "config"): inference reads two of them.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from rad_jax.checkpoints.damage import (
    Damaged,
    check_arrays,
    short_reason,
    sorted_out,
)
from rad_jax.checkpoints.orbax_path import orbax_path
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, in_bucket, remove_folder
from rad_jax.runtime.distributed import from_main, is_main, say

# Orbax reports at length; what a person needs to know is said here.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
_unraisable_before = sys.unraisablehook


def _unraisable(args: Any) -> None:
    """Orbax closes its event loop at the first file that cannot be written.

    TensorStore's threads then try to report the others to it: hundreds of tracebacks
    beside the error that is raised.
    """
    if str(args.exc_value) != "Event loop is closed":
        _unraisable_before(args)


sys.unraisablehook = _unraisable
warnings.filterwarnings("ignore", "coroutine 'async_serialize", RuntimeWarning)

WRITE_ERRORS = (OSError, ValueError, RuntimeError)
"""What Orbax and TensorStore raise when a disk is full or a folder is not ours."""

_OUTCOMES = (type(None), Damaged, UserError)
"""Of looking at the arrays of a checkpoint, by number."""

T = TypeVar("T")


class Checkpoints:
    """The checkpoints of one run; a context manager that waits for the last write."""

    def __init__(self, workdir: AnyPath, keep: int | None = None, keep_every: int = 0):
        """Opens a run's checkpoints; in a run of several processes, all of them do.

        Args:
          workdir: the run's folder.
          keep: how many of the latest stay; None only reads.
          keep_every: those of multiples of these steps stay too; 0 for none.

        Raises:
          UserError: the folder cannot be made, or is not there to read, or as
            `orbax_path`.
        """
        folder = orbax_path(workdir, write=keep is not None)
        self.folder = folder / "checkpoints"
        if keep is None and not self.folder.is_dir():
            raise UserError(
                f"{workdir}: holds no checkpoints; give the workdir of a training run"
            )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            keep_period=keep_every or None,
            create=keep is not None,
            read_only=keep is None,
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise self._unwritable(error) from error
        self._damaged: list[int] = []
        self._tidy = False

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits for the last write."""
        try:
            self._manager.close()
        except WRITE_ERRORS as error:
            if kind is None:  # else the first error is reported
                raise self._unwritable(error) from error

    def save(
        self, step: int, trees: Mapping[str, Any], records: Mapping[str, Any]
    ) -> None:
        """Starts writing a checkpoint, unless this step has one.

        The arrays are copied before it returns; files are written in the background.
        The first call removes what is of no use: what interrupted writes have left, and
        checkpoints that ``latest`` found damaged.

        Raises:
          UserError: this or the last checkpoint could not be written, e.g. for want of
            space. Those before it are untouched.
        """
        self._remove_damaged()
        if step in self._manager.all_steps():
            return
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        items |= {name: ocp.args.JsonSave(record) for name, record in records.items()}
        try:
            saved = self._manager.save(step, args=ocp.args.Composite(**items))
        except WRITE_ERRORS as error:
            raise self._unwritable(error) from error
        if not saved:
            raise AssertionError(f"a later checkpoint than {step} is in {self.folder}")

    def wait(self) -> None:
        """Waits until what was saved is on disk.

        Raises:
          UserError: it could not be written; see ``save``.
        """
        try:
            self._manager.wait_until_finished()
        except WRITE_ERRORS as error:
            raise self._unwritable(error) from error

    def check(self) -> None:
        """Does not wait, but raises what ``wait`` would if the writing is over."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def trees(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """Reads trees of arrays; call it from ``latest``.

        Args:
          step: of the checkpoint.
          like: for each item, a tree of arrays or shapes that it must have, on the
            devices of their shardings or, without one, on the first.
        """
        found = self._read(step, like) if is_main() else None
        # One process looks, for all: the others must not wait for what will not come.
        outcome = int(from_main(np.int32(_OUTCOMES.index(type(found)))))
        if found is not None:
            raise found
        if outcome:
            kind = Damaged if outcome == _OUTCOMES.index(Damaged) else UserError
            raise kind(f"{self.folder}: see process 0")
        # Else Orbax wants the kind of device that wrote them.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def target(leaf: Any) -> jax.ShapeDtypeStruct:
            sharding = leaf.sharding or here
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        shapes = {
            name: ocp.args.StandardRestore(jax.tree.map(target, tree))
            for name, tree in like.items()
        }
        return dict(self._manager.restore(step, args=ocp.args.Composite(**shapes)))

    def records(self, step: int, names: Iterable[str]) -> dict[str, Any]:
        """Reads JSON records; call it from ``latest``."""
        folder = self.folder / str(step)
        items = {name: ocp.args.JsonRestore() for name in names}
        try:
            for name in items:  # Orbax calls missing whatever it cannot read
                (folder / name / "metadata").read_bytes()
            return dict(self._manager.restore(step, args=ocp.args.Composite(**items)))
        except (OSError, ValueError, KeyError) as error:
            raise sorted_out(error, folder) from error

    def latest(self, read: Callable[[int], T]) -> T | None:
        """Reads the newest checkpoint, or the newest one that is not damaged.

        Damaged ones are named on stderr; one that cannot be read for another reason is
        an error, since what was trained after the one before it would be lost.

        Args:
          read: reads the checkpoint of a step, by ``trees`` and ``records``.

        Returns:
          What ``read`` returns, or None if there are no checkpoints.

        Raises:
          UserError: there are, and all are damaged, or one cannot be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return read(step)
            except Damaged as error:
                self._damaged.append(step)
                say(
                    f"{self.folder / str(step)}: damaged, trying the one before "
                    f"({error})"
                )
        if steps:
            raise UserError(
                f"{self.folder}: every checkpoint is damaged; restore the folder from "
                "a copy, or train in another --workdir"
            )
        return None

    def _read(self, step: int, names: Iterable[str]) -> Damaged | UserError | None:
        """What is wrong with the arrays of a checkpoint, if anything is."""
        try:
            for name in names:
                check_arrays(self.folder / str(step) / name)
        except (Damaged, UserError) as error:
            return error
        return None

    def _remove_damaged(self) -> None:
        """Once, and only when writing: whoever reads changes nothing."""
        if self._tidy:
            return
        try:
            for step in self._damaged:
                self._manager.delete(step)
            if is_main():
                for path in self._unfinished():
                    remove_folder(path)
        except OSError as error:
            raise self._unwritable(error) from error
        self._tidy = True

    def _unfinished(self) -> list[AnyPath]:
        """Folders that interrupted writes have left."""
        if not in_bucket(self.folder):
            return list(self.folder.glob("*.orbax-checkpoint-tmp*"))
        # They bear their last name at once, and are marked when they are whole.
        whole = {str(step) for step in self._manager.all_steps(read=True)}
        steps = [path for path in self.folder.glob("*") if path.name.isdecimal()]
        return [path for path in steps if path.name not in whole]

    def _unwritable(self, error: BaseException) -> UserError:
        return UserError(
            f"{self.folder}: cannot be written ({short_reason(error)}); free some "
            "space and rerun the same command to resume"
        )
