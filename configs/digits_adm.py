"""A plain ADM on digits, to fine-tune RAD from: one noise level per image.

rad-jax prepare digits --data_dir data
rad-jax train --config configs/digits_adm.py --workdir runs/digits_adm
rad-jax sample --model runs/digits_adm --output samples

Minutes on two cores. It paints whole digits and has never seen a hole.
"""

import ml_collections

from configs import digits


def get_config() -> ml_collections.ConfigDict:
    config = digits.get_config()
    config.mask.kind = "full"
    config.schedule.known_steps = 0  # DDPM's 1000 steps
    config.loss.parametrisation = "eps"
    config.loss.vlb_weight = 1.0  # T / 1000 (ADM)
    config.train.num_steps = 3000
    config.train.checkpoint_every = 500
    config.train.sample_every = 0  # grids are of inpainting
    return config
