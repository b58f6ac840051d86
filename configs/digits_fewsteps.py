"""RAD of digits in one to four evaluations, distilled from a model of `digits.py`.

rad-jax train --config configs/digits_fewsteps.py --workdir runs/digits_few \
    --config.distil.teacher=runs/digits
rad-jax inpaint --model runs/digits_few --steps 2 --image I --mask M --output O

First the ends of the teacher's paths, then the energy score on real images. Minutes on
two cores.
"""

import ml_collections

from configs import digits


def get_config() -> ml_collections.ConfigDict:
    config = digits.get_config()
    config.distil.kind = "trajectory"
    config.distil.teacher = "runs/digits"
    config.distil.energy_steps = 1600
    config.loss.vlb_weight = 0.0
    config.optimizer.learning_rate = 5e-4
    config.optimizer.ema_decay = 0.995
    config.train.num_steps = 3500
    return config
