"""RAD by LoRA from the plain ADM of configs/digits_adm.py, the paper's order.

rad-jax train --config configs/digits_adm.py --workdir runs/digits_adm
rad-jax train --config configs/digits_lora.py --workdir runs/digits_lora

`--config.lora.rank=0` trains all parameters instead.
"""

import ml_collections

from configs import digits


def get_config() -> ml_collections.ConfigDict:
    config = digits.get_config()
    config.pretrained = "runs/digits_adm"
    # The paper's rank. 4, as small for this width, is worse: docs/evaluation.md.
    config.lora.rank = 16
    config.lora.alpha = 16.0
    config.loss.parametrisation = "eps"  # the ADM's
    return config
