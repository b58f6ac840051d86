r"""RAD on ImageNet 256x256 by LoRA, the paper's settings (RAD Sec. 4.2).

rad-jax prepare imagenet256 --source ILSVRC2012_img_train.tar
rad-jax convert --input 256x256_diffusion_uncond.pt --preset imagenet256_uncond \
    --output models/imagenet256_uncond
rad-jax train --config configs/imagenet256.py --workdir runs/imagenet256
"""

import ml_collections

from configs import lsun_bedroom256


def get_config() -> ml_collections.ConfigDict:
    config = lsun_bedroom256.get_config()  # its network is this one
    config.data.name = "imagenet256"
    config.pretrained = "models/imagenet256_uncond"
    config.train.batch_size = 16
    config.train.num_steps = 800_000
    return config
