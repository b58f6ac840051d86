"""Blocks of an experiment that are training's alone: data, optimiser, and how long."""

import dataclasses
from typing import Any

from rad_jax.diffusion.options import STEPS
from rad_jax.errors import UserError
from rad_jax.files.paths import plain


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
        make_plain(self, "data_dir", "data.")
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
    sample_steps: int = STEPS
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


def make_plain(block: Any, name: str, prefix: str = "") -> None:
    """Makes a path of a frozen block `plain`, or names its key."""
    try:
        object.__setattr__(block, name, plain(getattr(block, name)))
    except UserError as error:
        raise UserError(f"{prefix}{name}: {error}") from error
