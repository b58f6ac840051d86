"""The batches that a run reads."""

import jax

from rad_jax.config import Experiment
from rad_jax.data import pipeline
from rad_jax.data.records import source


def open_batches(experiment: Experiment) -> pipeline.Batches:
    """This process's part of every batch.

    Raises:
      UserError: the data set is missing or damaged, or has other channels.
    """
    config = experiment.data
    return pipeline.batches(
        source(config.name, config.data_dir, config.train_split),
        batch_size=experiment.train.batch_size,
        seed=experiment.seed,
        channels=experiment.model.in_channels,
        image_size=experiment.model.image_size,
        random_crop=config.random_crop,
        random_flip=config.random_flip,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        num_workers=config.num_workers,
    )
