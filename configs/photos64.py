"""RAD from scratch on crops of ten photographs, 64x64: an example for one GPU.

pip install 'rad-jax[photos]'
rad-jax prepare photos --data_dir data
rad-jax train --config configs/photos64.py --workdir runs/photos64

Meant for less than an hour on one GPU. Not measured: neither the time, nor what comes
of it. To try the commands on a CPU, with a far smaller network:

rad-jax train --config configs/photos64.py --workdir runs/try \
    --config.model.model_channels=32 --config.model.num_head_channels=32 \
    --config.model.channel_mult="(1, 1)" --config.model.attention_resolutions="()" \
    --config.model.num_res_blocks=1 --config.model.dtype=float32 \
    --config.train.batch_size=4 --config.train.num_steps=4 --config.train.sample_every=0
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.data.name = "photos"
    config.data.eval_split = "test"
    config.data.random_flip = True
    config.model.image_size = 64
    config.model.model_channels = 64
    config.model.channel_mult = (1, 2, 3, 4)
    config.model.num_res_blocks = 2
    config.model.attention_resolutions = (16, 8)
    config.model.dtype = "bfloat16"
    config.loss.parametrisation = "v"  # as for digits
    config.optimizer.learning_rate = 3e-4
    config.optimizer.warmup_steps = 500
    config.optimizer.decay = "cosine"
    config.optimizer.ema_decay = 0.999
    config.train.num_steps = 20_000
    config.train.batch_size = 64
    config.train.checkpoint_every = 2000
    return config
