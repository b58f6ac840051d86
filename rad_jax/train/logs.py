"""Where a run writes what it sees: JSONL, TensorBoard, PNG grids."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.pictures import save_png

_torch = sys.modules.setdefault("torch", None)  # pyright: ignore[reportArgumentType]
# tensorboardX would import it, where it is installed, and use it for nothing of ours.
from tensorboardX import summary  # noqa: E402
from tensorboardX.event_file_writer import EventsWriter  # noqa: E402
from tensorboardX.proto.event_pb2 import (  # noqa: E402
    Event,  # pyright: ignore[reportAttributeAccessIssue] (made at import)
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)

if _torch is None:
    del sys.modules["torch"]


GROWING = ("metrics.jsonl", "speed.jsonl")
"""Files that a run continues."""


class Logs:
    """The log files of one run; a context manager that closes them.

    ``metrics.jsonl`` has one line per logged step. A run that resumes drops the lines
    after its checkpoint, so that the file reads as if it had never stopped: it is the
    same to the bit. What takes how long is in ``speed.jsonl``.
    """

    def __init__(self, workdir: Path, step: int, wandb_project: str = ""):
        """Opens the logs at a step, dropping what lies after it.

        Raises:
          UserError: the folder cannot be written, or Weights & Biases is wanted and
            not installed.
        """
        self._workdir = workdir
        self._wandb = start_wandb(wandb_project, workdir) if wandb_project else None
        self._samples = workdir / "samples"
        events = workdir / "tensorboard"
        with self._writing(), contextlib.ExitStack() as files:
            for folder in (self._samples, events):
                folder.mkdir(parents=True, exist_ok=True)
            paths = [workdir / name for name in GROWING]
            for path in paths:
                _drop_after(path, step)
            self._metrics, self._speed = (
                files.enter_context(path.open("a", buffering=1)) for path in paths
            )
            if self._wandb is not None:
                files.callback(self._wandb.finish)
            # Not SummaryWriter: its thread would die of a full disk, and we wait for
            # it for ever. The suffix: files are named by the second.
            self._events = EventsWriter(str(events / "events"), f".{step}")
            files.callback(self._events.close)
            # Makes TensorBoard drop what an earlier process wrote after this step.
            self._write_event(step + 1, session_log=SessionLog(status=SessionLog.START))
            self._files = files.pop_all()

    def __enter__(self) -> "Logs":
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes the files."""
        try:
            with self._writing():
                self._files.close()
        except UserError:
            if kind is None:  # else the first error is reported
                raise

    def scalars(
        self, step: int, values: Mapping[str, float], speed: Mapping[str, float]
    ) -> None:
        """Writes the numbers of a step: what was measured, and how fast it went."""
        with self._writing():
            self._metrics.write(json.dumps({"step": step, **values}) + "\n")
            self._speed.write(json.dumps({"step": step, **speed}) + "\n")
            for name, value in {**values, **speed}.items():
                self._write_event(step, summary=summary.scalar(name, value))
            self._events.flush()
        if self._wandb is not None:
            self._wandb.log({**values, **speed}, step=step)

    def picture(self, step: int, picture: np.ndarray) -> Path:
        """Writes a sample grid, uint8 (h, w, 3); returns its path."""
        path = self._samples / f"{step:07d}.png"
        save_png(picture, path)
        with self._writing():
            image = summary.image("samples", picture, dataformats="HWC")
            self._write_event(step, summary=image)
        if self._wandb is not None:
            self._wandb.log({"samples": self._wandb.Image(str(path))}, step=step)
        return path

    def _write_event(self, step: int, **content) -> None:
        self._events.write_event(Event(wall_time=time.time(), step=step, **content))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._workdir}: the logs cannot be written ({error.strerror}); free "
                "some space and rerun the same command to resume"
            ) from error


def start_wandb(project: str, workdir: Path) -> Any:
    """A run of Weights & Biases; the same workdir continues the same run.

    Raises:
      UserError: it is not installed.
    """
    try:
        import wandb  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError as error:
        raise UserError(
            "train.wandb_project needs Weights & Biases: pip install 'rad-jax[wandb]', "
            "or set it to ''"
        ) from error
    config = json.loads((workdir / "config.json").read_text())
    name = workdir.resolve().name
    wandb.init(project=project, name=name, id=name, resume="allow", config=config)
    return wandb


def _drop_after(path: Path, step: int) -> None:
    """Drops the lines of a JSONL file that are of later steps."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # the line that was being written when the run was cut off
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(kept))
    os.replace(partial, path)
