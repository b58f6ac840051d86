"""A benchmark's training run, which a later call goes on with."""

from collections.abc import Iterable
from pathlib import Path

from rad_jax.config.file import load_config
from rad_jax.train.loop import train
from rad_jax.train.stop import stop_on_signals


def trained(config: str, changes: Iterable[str], workdir: Path) -> bool:
    """Trains by a config with keys changed, ``train.num_steps=9``, or goes on.

    Returns:
      Whether it is done; False if it was stopped.
    """
    experiment = load_config(config, [f"--config.{change}" for change in changes])
    with stop_on_signals() as stop:
        train(experiment, workdir, stop)
    return not stop
