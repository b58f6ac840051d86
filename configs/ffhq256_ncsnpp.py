"""RAD on FFHQ 256x256 by LoRA of score_sde's NCSN++ (VE), not of an ADM.

rad-jax prepare ffhq256 --source images1024x1024
rad-jax convert --input checkpoint_48.pth --preset ncsnpp_ffhq256 \
  --output models/ncsnpp_ffhq256
rad-jax train --config configs/ffhq256_ncsnpp.py --workdir runs/ffhq256_ncsnpp
"""

import ml_collections

from configs import digits_base, ffhq256


def get_config() -> ml_collections.ConfigDict:
    config = ffhq256.get_config()
    config.pretrained = "models/ncsnpp_ffhq256"
    config.model = digits_base.ncsnpp(fourier=True)
    config.model.image_size = 256
    config.model.model_channels = 128
    config.model.channel_mult = (1, 1, 2, 2, 2, 2, 2)
    config.model.num_res_blocks = 2
    config.model.attention_resolutions = (16,)
    config.model.in_channels = config.model.out_channels = 3
    config.model.progressive = "output_skip"
    config.model.progressive_input = "input_skip"
    config.schedule.kind = "ve"
    config.schedule.hole_steps = config.schedule.known_steps = 2000
    config.schedule.base_steps = 2000
    config.schedule.sigmas = (0.01, 348.0)
    config.loss.parametrisation = "score"
    config.loss.vlb_weight = 0.0
    return config
