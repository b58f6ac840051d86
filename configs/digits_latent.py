"""RAD in the latents of digits: 8x8 of four numbers, of an autoencoder of its own.

Smallest example of a base in latents. `benchmarks/latents.py` makes the model to start
from, which has the autoencoder; then:

rad-jax train --config configs/digits_latent.py --workdir runs/digits_latent \
    --config.pretrained=runs/latents/start
"""

import ml_collections

from configs import digits


def get_config() -> ml_collections.ConfigDict:
    config = digits.get_config()
    config.codec = ml_collections.ConfigDict()
    config.codec.kind = "kl"
    config.codec.widths = (32, 64)  # half the pixels along a side
    config.codec.num_res_blocks = 1
    config.codec.latent_channels = 4
    config.codec.image_channels = 1
    config.codec.image_size = 16
    config.model.image_size = 8
    config.model.channel_mult = (1, 2)
    config.model.attention_resolutions = (8, 4)
    config.model.in_channels = config.model.out_channels = 4
    config.model.learn_sigma = False
    config.loss.vlb_weight = 0.0  # latents are no bytes
    config.pretrained = "runs/latents/start"
    return config
