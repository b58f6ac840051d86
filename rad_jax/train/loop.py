"""The training loop: one process, the same command resumes."""

import dataclasses
import functools
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding

from rad_jax.checkpoint import Checkpoints
from rad_jax.config import Experiment, from_dict, to_dict
from rad_jax.data import pipeline
from rad_jax.errors import UserError
from rad_jax.loading import read_frozen
from rad_jax.models.apply import Params
from rad_jax.models.lora import plain_params
from rad_jax.progress import progress
from rad_jax.sharding import data_shardings
from rad_jax.train.logs import Logs
from rad_jax.train.pretrained import load_pretrained, write_base
from rad_jax.train.samples import SampleGrid
from rad_jax.train.state import TrainState, init_state
from rad_jax.train.step import make_train_step
from rad_jax.train.stop import StopRequest

# What may change between a run and its resumption: nothing that changes the result.
FREE_KEYS = {
    "data.data_dir",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.sample_every",
    "train.sample_steps",
}


def train(experiment: Experiment, workdir: Path, stop: StopRequest) -> TrainState:
    """Trains, or goes on training from the latest checkpoint in ``workdir``.

    n steps, a stop and m more give bit for bit what n + m steps give: all randomness
    comes from the seed and the step, and the position in the data is saved.

    Args:
      experiment: what to train.
      workdir: folder of the run, made if needed: ``config.json``, ``checkpoints/``,
        ``metrics.jsonl``, ``tensorboard/`` and ``samples/``; with adapters also
        ``base/``, the model that they belong to.
      stop: asked between two steps; when it is true, writes a checkpoint and returns.

    Returns:
      The last state.

    Raises:
      UserError: the data is missing or of another size, the pretrained model does not
        fit, the folder belongs to another experiment or cannot be written, or the loss
        is no longer finite.
    """
    settings = experiment.train
    records = pipeline.source(
        experiment.data.name, experiment.data.data_dir, experiment.data.train_split
    )
    batches = pipeline.batches(
        records,
        batch_size=settings.batch_size,
        seed=experiment.seed,
        channels=experiment.model.in_channels,
    )
    divided, everywhere = data_shardings(settings.batch_size)
    with Checkpoints(workdir, settings.keep_checkpoints) as checkpoints:
        state, frozen, position = _start(experiment, workdir, checkpoints, everywhere)
        first = int(state.step)
        if first >= settings.num_steps:
            print(f"rad-jax: {workdir}: has {first} steps already", file=sys.stderr)
            return state
        if position is not None:
            batches.set_state(position)
            print(f"rad-jax: going on from step {first}", file=sys.stderr)
        _write_config(experiment, workdir)
        samples = SampleGrid(experiment)
        train_step = make_train_step(experiment)

        def save(state: TrainState) -> None:
            trees = {
                "params": state.params,
                "ema": state.ema,
                "optimizer": state.opt_state,
            }
            data = {"data": batches.get_state(), "config": to_dict(experiment)}
            checkpoints.save(int(state.step), trees, data)

        with Logs(workdir, first) as logs:
            logged, clock = first, time.monotonic()
            bar = progress(
                range(first + 1, settings.num_steps + 1),
                total=settings.num_steps,
                initial=first,
                desc="train",
                unit="step",
            )
            for step in bar:
                pixels = _checked(next(batches)["image"], experiment)
                images = jax.device_put(pixels, divided)
                state, metrics = train_step(state, frozen, images)
                last = step == settings.num_steps
                # Asked once: the answer may change meanwhile.
                stopping = bool(stop)
                logging = step % settings.log_every == 0 or last
                saving = step % settings.checkpoint_every == 0 or last or stopping
                if logging or saving:
                    values = {name: float(x) for name, x in metrics.items()}
                    _require_finite(step, values)
                if logging:
                    seconds, clock = time.monotonic() - clock, time.monotonic()
                    rate = (step - logged) * settings.batch_size / seconds
                    logged = step
                    bar.set_postfix(loss=values["loss"], **{"img/s": rate})
                    logs.scalars(step, values, rate)
                    checkpoints.check()  # or a full disk shows at the next one
                if settings.sample_every and (
                    step % settings.sample_every == 0 or last
                ):
                    averaged = plain_params(
                        experiment.model, experiment.lora, state.ema, frozen
                    )
                    logs.picture(step, samples.draw(averaged))
                if saving:
                    save(state)
                if stopping:
                    break
            checkpoints.wait()
    return state


def _checked(pixels: np.ndarray, experiment: Experiment) -> np.ndarray:
    """A batch of the size that the network is made for, or a UserError."""
    size = experiment.model.image_size
    if pixels.shape[1:3] != (size, size):
        raise UserError(
            f"the images of {experiment.data.name} have {pixels.shape[2]}x"
            f"{pixels.shape[1]} pixels, model.image_size is {size}; make them equal"
        )
    return pixels


def _require_finite(step: int, values: Mapping[str, float]) -> None:
    """Raises UserError before useless parameters are saved."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(
                f"the {name} is {value} at step {step}: training has diverged; train "
                "in another --workdir with a lower optimizer.learning_rate"
            )


def _start(
    experiment: Experiment,
    workdir: Path,
    checkpoints: Checkpoints,
    everywhere: NamedSharding,
) -> tuple[TrainState, Params, dict | None]:
    """State to start from, what is frozen, position in the data if the run resumes."""
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        jax.eval_shape(lambda: init_state(experiment)),
    )

    def read(step: int) -> tuple[TrainState, dict]:
        records = checkpoints.records(step, ("config", "data"))
        _require_same(experiment, from_dict(records["config"]), checkpoints.folder)
        like = {
            "params": shapes.params,
            "ema": shapes.ema,
            "optimizer": shapes.opt_state,
        }
        trees = checkpoints.trees(step, like)
        resumed = TrainState(
            jax.device_put(np.int32(step), everywhere),
            trees["params"],
            trees["ema"],
            trees["optimizer"],
        )
        return resumed, records["data"]

    state, position = checkpoints.latest(read) or (None, None)
    if state is None:
        params = None
        if experiment.pretrained:
            model = load_pretrained(experiment)
            if experiment.lora.rank:
                write_base(experiment, workdir, model)
            params = model.params
        initial = jax.jit(functools.partial(init_state, experiment))
        state = jax.device_put(initial(params), everywhere)
    frozen = jax.device_put(read_frozen(experiment, workdir), everywhere)
    if frozen:
        trained, rest = (
            sum(leaf.size for leaf in jax.tree.leaves(tree))
            for tree in (state.params, frozen)
        )
        print(
            f"rad-jax: {trained:,} parameters train, {rest:,} are frozen",
            file=sys.stderr,
        )
    return state, frozen, position


def _require_same(ours: Experiment, stored: Experiment, folder: Path) -> None:
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


def _write_config(experiment: Experiment, workdir: Path) -> None:
    """Leaves the resolved config for a person to read."""
    try:
        partial = workdir / "config.tmp"
        partial.write_text(json.dumps(to_dict(experiment), indent=2) + "\n")
        os.replace(partial, workdir / "config.json")
    except OSError as error:
        raise UserError(
            f"{workdir}: cannot be written ({error.strerror}); free some space and run "
            "the same command again"
        ) from error
