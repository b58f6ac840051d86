"""RAD on FFHQ 256x256 by LoRA, the paper's settings (RAD Sec. 4.2).

rad-jax prepare ffhq256 --source images1024x1024
rad-jax convert --input ffhq_10m.pt --preset ffhq256 --output models/ffhq256
rad-jax train --config configs/ffhq256.py --workdir runs/ffhq256
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()  # its network is this one
    config.data.name = "ffhq256"
    config.data.random_flip = True  # as ADM's training does
    config.pretrained = "models/ffhq256"
    config.lora.rank = 16
    config.lora.alpha = 16.0
    config.optimizer.learning_rate = 1e-4
    config.train.batch_size = 16
    config.train.num_steps = 300_000
    return config
