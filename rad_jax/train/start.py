"""Where a run begins: its latest checkpoint, a pretrained model or new parameters."""

import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.checkpoints.load import read_codec, read_frozen
from rad_jax.config.experiment import Experiment, from_dict, to_dict
from rad_jax.diffusion.distil_config import TAUGHT
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.runtime.distributed import from_main, is_main, say
from rad_jax.runtime.sharding import place, shapes_on, tree_shardings
from rad_jax.train.pretrained import (
    load_pretrained,
    load_teacher,
    read_teacher,
    write_base,
    write_teacher,
)
from rad_jax.train.state import Frozen, TrainState, init_state
from rad_jax.train.totals import Totals

# What may change between a run and its resumption: nothing that changes the result, or
# no more than the number of devices does.
FREE_KEYS = {
    "data.data_dir",
    "data.num_workers",
    "distil.weights",
    "train.microbatches",
    "train.fsdp",
    "train.max_skipped",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.keep_every",
    "train.sample_every",
    "train.sample_steps",
    "train.wandb_project",
}


class Start(NamedTuple):
    """What a run begins with, on the devices of all processes.

    Attributes:
      state: what training changes.
      frozen: parameters that it does not.
      position: in the data, as saved; None at the very beginning.
    """

    state: TrainState
    frozen: Frozen
    position: dict[str, Any] | None


def start(
    experiment: Experiment, workdir: AnyPath, checkpoints: Checkpoints, mesh: Mesh
) -> Start:
    """Resumes, or begins; all processes must call it.

    Raises:
      UserError: the folder holds another run, or the pretrained model does not fit.
    """
    shapes = jax.eval_shape(lambda: init_state(experiment))
    shardings = tree_shardings(shapes, mesh)
    shapes = shapes_on(shapes, shardings)

    def read(step: int) -> tuple[TrainState, dict]:
        records = checkpoints.records(step, ("config", "data"))
        _require_same(experiment, from_dict(records["config"]), checkpoints.folder)
        trees = checkpoints.trees(step, items(shapes))
        counter: Any = place(np.int32(step), shapes.step.sharding)
        return from_items(counter, trees), records["data"]

    state, position = checkpoints.latest(read) or (None, None)
    if state is None:
        state = _begin(experiment, workdir, shardings)
    frozen = Frozen(
        read_frozen(experiment, workdir),
        read_teacher(experiment, workdir),
        read_codec(experiment, workdir),
    )
    frozen = place(frozen, tree_shardings(frozen, mesh))
    if frozen.base:
        trained, rest = (
            sum(leaf.size for leaf in jax.tree.leaves(tree))
            for tree in (state.params, frozen.base)
        )
        say(f"{trained:,} parameters train, {rest:,} are frozen")
    return Start(state, frozen, position)


def items(state: TrainState) -> dict[str, Any]:
    """The parts of a state that a checkpoint keeps apart; its step is its name."""
    return {
        "params": state.params,
        "ema": state.ema,
        "optimizer": state.opt_state,
        "totals": state.totals._asdict(),
    }


def from_items(step: jax.Array, trees: dict[str, Any]) -> TrainState:
    """The inverse of ``items``."""
    totals = Totals(**trees["totals"])
    return TrainState(step, trees["params"], trees["ema"], trees["optimizer"], totals)


def _begin(experiment: Experiment, workdir: AnyPath, shardings: Any) -> TrainState:
    """The state before the first step, each array born where it belongs."""
    params = None
    if experiment.start_from:
        # Read by every process, as NumPy arrays or on its own devices.
        # A student of no other model starts as its teacher, which is read once.
        teacher = load_teacher(experiment) if experiment.distil.teacher else None
        model = load_pretrained(experiment) if experiment.pretrained else teacher
        assert model is not None  # by `start_from`
        if (experiment.lora.rank or experiment.codec) and is_main():
            write_base(experiment, workdir, model)
        if teacher and experiment.distil.kind in TAUGHT and is_main():
            write_teacher(experiment, workdir, teacher)
        from_main(np.int32(0))  # they are there for all from here on
        params = jax.tree.map(np.asarray, model.params)
        params = place(params, tree_shardings(params, shardings.step.mesh))
    initial = functools.partial(init_state, experiment)
    return jax.jit(initial, out_shardings=shardings)(params)


def _require_same(ours: Experiment, stored: Experiment, folder: AnyPath) -> None:
    """Raises UserError naming the first key in which two experiments differ."""
    for block in (field.name for field in dataclasses.fields(Experiment)):
        a, b = getattr(ours, block), getattr(stored, block)
        if not dataclasses.is_dataclass(a):
            pairs = [(block, a, b)]
        else:
            pairs = [
                (f"{block}.{f.name}", getattr(a, f.name), getattr(b, f.name))
                for f in dataclasses.fields(a)
            ]
        for key, here, there in pairs:
            longer = key == "train.num_steps" and ours.optimizer.decay == "constant"
            if here != there and key not in FREE_KEYS and not longer:
                raise UserError(
                    f"{folder.parent}: holds a run of another config ({key} is {there} "
                    f"there, {here} here); use another --workdir"
                )


def write_config(experiment: Experiment, workdir: Path) -> None:
    """Leaves the resolved config for a person to read; the main process does."""
    if not is_main():
        return
    try:
        partial = workdir / "config.tmp"
        partial.write_text(json.dumps(to_dict(experiment), indent=2) + "\n")
        os.replace(partial, workdir / "config.json")
    except OSError as error:
        raise UserError(
            f"{workdir}: cannot be written ({error.strerror}); free some space and "
            "rerun the same command to resume"
        ) from error
