r"""RAD on LSUN Bedroom 256x256 by LoRA, the paper's settings (RAD Sec. 4.2).

rad-jax prepare lsun_bedroom256 --source bedroom_train_lmdb
rad-jax convert --input lsun_bedroom.pt --preset lsun_bedroom \
    --output models/lsun_bedroom
rad-jax train --config configs/lsun_bedroom256.py --workdir runs/lsun_bedroom256
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.data.name = "lsun_bedroom256"
    config.data.random_flip = True  # as ADM's training does
    config.pretrained = "models/lsun_bedroom"
    config.model.model_channels = 256
    config.model.num_res_blocks = 2
    config.model.attention_resolutions = (32, 16, 8)
    config.lora.rank = 16
    config.lora.alpha = 16.0
    config.optimizer.learning_rate = 1e-4
    config.train.batch_size = 8
    config.train.num_steps = 300_000
    return config
