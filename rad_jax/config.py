"""What an experiment is: one frozen dataclass for each block of a config file.

A config file (``configs/*.py``, ml_collections) is Python and is executed: run only
those you trust. What comes of it, the resolved experiment, is stored as JSON with every
checkpoint, and whoever loads a model reads it from there.
"""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from rad_jax.diffusion.denoise import check_base
from rad_jax.diffusion.losses import LossConfig
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.from_dict import build
from rad_jax.files.paths import plain, split_argument
from rad_jax.masks.training import MaskConfig
from rad_jax.models.config import LoRAConfig
from rad_jax.models.network import NetworkConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images to read, and how.

    Attributes:
      name: TFDS name of a prepared data set, or "folder".
      data_dir: the folder that holds TFDS data sets; with "folder", the images.
      train_split: split to train on.
      eval_split: held-out split, for sample grids.
      random_crop: cut a random part out of each image, as ADM does, where the files
        have more pixels than the network; else the centre.
      random_flip: mirror every other image.
      num_workers: processes that decode, in each process that trains; 0 for threads.
    """

    name: str
    data_dir: str
    train_split: str = "train"
    eval_split: str = "test"
    random_crop: bool = False
    random_flip: bool = False
    num_workers: int = 0

    def __post_init__(self):
        """Makes the path plain; refuses a count that is none."""
        _make_plain(self, "data_dir", "data.")
        if self.num_workers < 0:
            raise UserError(f"data.num_workers is {self.num_workers}; it must be >= 0")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with clipping, and the average of the parameters.

    Attributes:
      learning_rate: its peak.
      warmup_steps: steps of linear warm-up from 0.
      decay: "constant" after the warm-up, or "cosine" to 0 at the last step.
      weight_decay: decoupled, on every parameter that trains; 0 is Adam.
      clip_norm: limit of the gradient's global norm.
      ema_decay: of the average; in step n it is min(ema_decay, (1 + n) / (10 + n)).
    """

    learning_rate: float = 1e-4
    warmup_steps: int = 0
    decay: str = "constant"
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.9999

    def __post_init__(self):
        """Refuses what cannot be optimised with."""
        if self.decay not in ("constant", "cosine"):
            raise UserError(
                f"optimizer.decay is {self.decay!r}; use 'constant' or 'cosine'"
            )
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            raise UserError("optimizer.learning_rate and clip_norm must be > 0")
        if self.warmup_steps < 0 or self.weight_decay < 0:
            raise UserError("optimizer.warmup_steps and weight_decay must be >= 0")
        if not 0 <= self.ema_decay < 1:
            raise UserError(
                f"optimizer.ema_decay is {self.ema_decay}; it must lie in [0, 1)"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long to train, and what to write on the way.

    Attributes:
      num_steps: optimiser steps in all.
      batch_size: images per step, over all devices.
      microbatches: parts that a step takes its batch in, one after the other.
      fsdp: devices that share one copy of what trains; the others have copies of it.
      max_skipped: steps without a finite gradient in a row before the run gives up.
      log_every: steps between lines of the logs.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: how many of the latest stay.
      keep_every: checkpoints of multiples of these steps stay too, 0 for none.
      sample_every: steps between sample grids, 0 for none.
      sample_steps: sampling steps of a grid.
      wandb_project: where Weights & Biases shows the run, "" for nowhere.
    """

    num_steps: int
    batch_size: int
    microbatches: int = 1
    fsdp: int = 1
    max_skipped: int = 20
    log_every: int = 100
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    keep_every: int = 0
    sample_every: int = 0
    sample_steps: int = SamplingOptions.steps
    wandb_project: str = ""

    def __post_init__(self):
        """Refuses counts that are no counts."""
        zero = ("keep_every", "sample_every", "sample_steps")  # switch something off
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), 0 if field.name in zero else 1
            if field.type is int and value < least:
                raise UserError(f"train.{field.name} is {value}; it must be >= {least}")
        if self.batch_size % self.microbatches:
            raise UserError(
                f"train.batch_size is {self.batch_size}, which train.microbatches="
                f"{self.microbatches} does not divide"
            )

    @property
    def images_per_pass(self) -> int:
        """Images that the network gets at once, over all devices."""
        return self.batch_size // self.microbatches


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that determines a training run.

    Attributes:
      seed: of the parameters, the order of the data and all noise, >= 0.
      pretrained: folder of the model to start from (a model folder, or the workdir of a
        run), or its hf:// address; "" draws new parameters.
      data: the images.
      model: the network.
      schedule: the noise.
      mask: what is a hole.
      loss: what is minimised.
      lora: which parameters train.
      optimizer: how.
      train: how long.
    """

    seed: int
    pretrained: str
    data: DataConfig
    model: NetworkConfig
    schedule: ScheduleConfig
    mask: MaskConfig
    loss: LossConfig
    lora: LoRAConfig
    optimizer: OptimizerConfig
    train: TrainConfig

    def __post_init__(self):
        """Makes the path plain; refuses blocks that contradict each other."""
        if self.pretrained:
            _make_plain(self, "pretrained")
        weight_decay = self.optimizer.weight_decay
        check_base(self.model, self.schedule, self.loss, weight_decay)
        if self.model.num_classes is not None:
            raise UserError("model.num_classes: training with labels is not built yet")
        # Upsamplers take a second image, which the data sets do not have.
        if self.model.in_channels != self.model.out_channels:
            raise UserError("model.in_channels and out_channels must be equal")
        most, steps = self.schedule.hole_steps, self.train.sample_steps
        if self.train.sample_every and not 1 <= steps <= most:
            raise UserError(
                f"train.sample_steps is {steps}; it must lie in 1 .. {most}"
            )
        if self.lora.rank and not self.pretrained:
            raise UserError(
                f"lora.rank is {self.lora.rank}, and adapters need a network to adapt: "
                "set pretrained to the folder of a model, or lora.rank to 0"
            )
        # Grain takes 32 bits.
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}; it must lie in 0 .. 2**32 - 1")


def _make_plain(block: Any, name: str, prefix: str = "") -> None:
    """Makes a path of a frozen block `plain`, or names its key."""
    try:
        object.__setattr__(block, name, plain(getattr(block, name)))
    except UserError as error:
        raise UserError(f"{prefix}{name}: {error}") from error


def from_dict(blocks: Mapping[str, Any]) -> Experiment:
    """Builds an experiment from nested dictionaries (a config file, or stored JSON).

    Raises:
      UserError: a key is unknown (naming the nearest), missing, or of the wrong type.
    """
    return build(Experiment, blocks, prefix="")


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The inverse of ``from_dict``, as JSON stores it (lists for tuples)."""
    # Through JSON, so that it equals what a checkpoint gives back.
    return json.loads(json.dumps(dataclasses.asdict(experiment)))


def load_config(path: str | os.PathLike[str], overrides: Sequence[str]) -> Experiment:
    """Executes a config file and applies overrides.

    Args:
      path: a Python file with ``get_config()``; a path as given, or one below the
        package if there is none (``configs/digits.py`` of an installed rad_jax).
        ``FILE:ARGUMENT`` calls ``get_config("ARGUMENT")``.
      overrides: like ``--config.train.batch_size=8``; of a key that is true or false
        also ``--config.KEY`` and ``--noconfig.KEY``.

    Raises:
      UserError: the file is missing or fails, or a key, a value or the argument does
        not fit.
    """
    name, argument = split_argument(os.fspath(path))
    file = _find(Path(name)).resolve()
    if ":" in str(file):  # ml_collections would take the rest for the argument
        raise UserError(f"{file}: a config's path must have no colon; move the file")
    call = f"{file}:{argument}" if argument is not None else str(file)
    argv = ["rad-jax", f"--config={call}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", flag_values=values, sys_argv=argv, lock_config=True
    )
    try:
        with _importable(file.parent.parent):
            values(argv)  # executes the file
            config = values["config"].value
    except Exception as error:  # whatever the file's own code raises
        raise UserError(f"{file.name}: {_reason(error, file.name)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"{file.name}: get_config() must return a ConfigDict")
    return from_dict(config.to_dict())


def _reason(error: Exception, name: str) -> str:
    """Why a config file cannot be used."""
    text = _one_line(error)
    # ml_collections gives the traceback; one place in it is its own call.
    if text.count('File "') == 1:
        if "get_config() takes 0 positional arguments" in text:
            return f"get_config() takes no argument; give {name} without :ARGUMENT"
        if "get_config() missing 1 required positional argument" in text:
            return f"get_config() needs an argument; give {name}:ARGUMENT"
    return text


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets a config file import its neighbours as ``configs.base``."""
    # First: some installed package may be called configs as well.
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _find(path: Path) -> Path:
    """The path as given, or that of a config that comes with the package."""
    package = Path(__file__).parent  # holds configs/ when installed, else its parent
    for folder in (Path(), package, package.parent):
        if (folder / path).is_file():
            return folder / path
    raise UserError(f"{path}: no such config file; give one such as configs/digits.py")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error.args[0] if error.args else error).split())
    return text.replace("\\n", " ")
