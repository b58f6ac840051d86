"""RAD from scratch on scikit-learn's handwritten digits, 16x16, for a CPU.

rad-jax prepare digits --data_dir data
rad-jax train --config configs/digits.py --workdir runs/digits

Minutes on two cores; `rad-jax demo` runs it and measures what comes of it.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.data.name = "digits"
    config.data.eval_split = "test"
    config.model.image_size = 16
    config.model.model_channels = 32
    config.model.channel_mult = (1, 2, 2)
    config.model.attention_resolutions = (8, 4)
    config.model.num_head_channels = 32
    config.model.in_channels = config.model.out_channels = 1
    config.model.resblock_updown = False  # convolutions cost half as much here
    # The digit is decided where the hole is all noise, and there an error of eps weighs
    # next to nothing.
    config.loss.parametrisation = "v"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.decay = "cosine"
    config.optimizer.ema_decay = 0.998
    config.train.num_steps = 2000
    config.train.batch_size = 32
    config.train.checkpoint_every = 400
    config.train.sample_every = 1000
    config.train.sample_steps = 25
    return config
