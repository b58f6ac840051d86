"""The training loop, on one process or many; rerunning it resumes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.config.experiment import Experiment, to_dict
from rad_jax.data.prefetch import Prefetch
from rad_jax.files.bucket import AnyPath
from rad_jax.models.lora import plain_params
from rad_jax.progress import progress
from rad_jax.runtime.distributed import is_main, say
from rad_jax.runtime.sharding import local_copy, make_mesh, place_batch
from rad_jax.train.distil import stages
from rad_jax.train.health import Health
from rad_jax.train.input import open_batches
from rad_jax.train.lock import lock
from rad_jax.train.log_uploader import LogUploader
from rad_jax.train.logs import GROWING, Logs
from rad_jax.train.plan import make_plan, step_speed
from rad_jax.train.profile import Profile
from rad_jax.train.samples import SampleGrid
from rad_jax.train.start import items, start, write_config
from rad_jax.train.state import TrainState, restarted
from rad_jax.train.step import Batch, check_batch, make_train_step
from rad_jax.train.stop import StopRequest
from rad_jax.train.totals import means


def train(
    experiment: Experiment,
    workdir: AnyPath,
    stop: StopRequest,
    *,
    profile: bool = False,
) -> TrainState:
    """Trains, or resumes from the latest checkpoint in ``workdir``.

    n steps, a stop and m more give bit for bit what n + m steps give: all randomness
    comes from the seed and the step, and the position in the data is saved.

    Args:
      experiment: what to train.
      workdir: folder of the run, also in a bucket, made if needed: ``config.json``,
        ``checkpoints/``, ``metrics.jsonl``, ``speed.jsonl``, ``tensorboard/`` and
        ``samples/``; with adapters also ``base/``, the model that they belong to.
      stop: asked in every step; when it is true in one process, all of them write a
        checkpoint after the next step and return.
      profile: trace a few steps into ``profile/``.

    Returns:
      The last state.

    Raises:
      UserError: the data is missing or of another size, the pretrained model does not
        fit, the devices cannot share the batch, the folder belongs to another
        experiment, is in use or cannot be written, or the loss is no longer finite.
    """
    # 1. What does not fit is refused before the folder is touched.
    settings = experiment.train
    mesh = make_mesh(settings.fsdp)
    check_batch(experiment, mesh.size)
    batches = open_batches(experiment)
    with (
        lock(workdir),
        LogUploader(workdir, GROWING if is_main() else ()) as uploader,
        Checkpoints(
            workdir, settings.keep_checkpoints, settings.keep_every
        ) as checkpoints,
    ):
        # 2. The latest checkpoint, or a new state.
        state, frozen, position = start(experiment, workdir, checkpoints, mesh)
        first = int(state.step)
        if first >= settings.num_steps:
            say(f"{workdir}: has {first} steps already")
            return state
        if position is not None:
            batches.set_state(position)
            say(f"resuming from step {first}")
        # 3. What is said and written once; the step compiles when it is first called.
        say(make_plan(experiment, mesh).summary(workdir))
        write_config(experiment, uploader.folder)
        samples = SampleGrid(experiment)
        parts = dict(stages(experiment))
        train_step = make_train_step(
            parts[max(start for start in parts if start <= first)], mesh
        )
        flags = _stop_flags(mesh)
        speed = step_speed(experiment, mesh)
        health = Health(settings.max_skipped, workdir)
        with (
            contextlib.closing(
                Prefetch(batches, lambda local: place_batch(local["image"], mesh))
            ) as images,
            _logs(experiment, uploader.folder, first) as logs,
            Profile(
                uploader.folder, first, settings.num_steps, wanted=profile
            ) as trace,
        ):
            logged = first
            bar = progress(
                range(first + 1, settings.num_steps + 1),
                total=settings.num_steps,
                initial=first,
                desc="train",
                unit="step",
                quiet=not is_main(),
            )
            for step in bar:
                # 4. Another loss from here on, with an optimiser of its own.
                if step > 1 and step - 1 in parts:
                    train_step = make_train_step(parts[step - 1], mesh)
                    state = restarted(parts[step - 1], state)
                # 5. One step. No transfer may hide here: it would wait for the device.
                with jax.transfer_guard("disallow"), trace.step(step):
                    batch = Batch(next(images), flags[bool(stop)])
                    state, signals = train_step(state, frozen, batch)
                    # Of the step before, while the devices work on this one.
                    stopping = health.check(step, signals)
                # 6. The logs. Means of all steps since the line before.
                last = step == settings.num_steps
                if step % settings.log_every == 0 or last:
                    values = means(jax.device_get(state.totals))
                    lap = speed.lap(step - logged, images.seconds_waited)
                    logged = step
                    bar.set_postfix(loss=values.get("loss", "-"), **lap)
                    if logs is not None:
                        logs.scalars(step, values, lap)
                    checkpoints.check()  # or a full disk shows at the next one
                # 7. Samples: all processes gather the average, the main one draws.
                if settings.sample_every and (
                    step % settings.sample_every == 0 or last
                ):
                    ema, rest = local_copy((state.ema, frozen), mesh)
                    if logs is not None:
                        ema = plain_params(
                            experiment.model, experiment.lora, ema, rest.base
                        )
                        logs.picture(step, samples.draw(ema, rest.codec))
                # 8. The checkpoint, with the position in the data.
                if step % settings.checkpoint_every == 0 or last or stopping:
                    records = {"data": images.position, "config": to_dict(experiment)}
                    uploader.publish()  # before: logs may be ahead, not behind
                    checkpoints.save(step, items(state), records)
                if stopping:
                    break
            checkpoints.wait()
    return state


def _stop_flags(mesh: Mesh) -> list[jax.Array]:
    """For each device whether its process was asked to stop: if it was not, and was."""
    here = jax.local_device_count()
    return [place_batch(np.full(here, flag, np.int32), mesh) for flag in (0, 1)]


@contextlib.contextmanager
def _logs(experiment: Experiment, folder: Path, step: int) -> Iterator[Logs | None]:
    """The logs, of the main process alone."""
    if not is_main():
        yield None
        return
    with Logs(folder, step, experiment.train.wandb_project) as logs:
        yield logs
