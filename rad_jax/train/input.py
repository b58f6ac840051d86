"""The batches that a run reads."""

import jax

from rad_jax.config.experiment import Experiment
from rad_jax.data.examples import ToExample
from rad_jax.data.pipeline import Batches, Shard, batches
from rad_jax.data.records import source


def open_batches(experiment: Experiment) -> Batches:
    """This process's part of every batch.

    Raises:
      UserError: the data set is missing or damaged, or has other channels.
    """
    config = experiment.data
    return batches(
        source(config.name, config.data_dir, config.train_split),
        ToExample(
            experiment.channels,
            experiment.image_size,
            config.random_crop,
            config.random_flip,
        ),
        batch_size=experiment.train.batch_size,
        seed=experiment.seed,
        shard=Shard(jax.process_index(), jax.process_count()),
        num_workers=config.num_workers,
    )
