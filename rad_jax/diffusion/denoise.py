"""The one call through which sampling and training ask a base's network.

A base is a network (`models`), a clock (`clock`) and what its network predicts
(`gaussian.predict_x0`). The call takes RAD's variance-preserving images, whatever
process the base was trained on.
"""

from collections.abc import Callable

from rad_jax.diffusion.schedule import Schedule
from rad_jax.models.apply import Params, make_apply
from rad_jax.models.config import NO_LORA, LoRAConfig
from rad_jax.models.network import NetworkConfig
from rad_jax.models.noise_embedding import Noise
from rad_jax.typing import Images, Labels, LogLevels, Outputs, PRNGKeys

Denoise = Callable[..., Outputs]
"""``denoise(params, x, level, told, labels=None, dropout_keys=None)``.

Args:
  params: the network's.
  x: noisy images (b, h, w, c), variance preserving; an upsampler's low-resolution
    images behind them.
  level: log alpha-bar of every pixel of x, (b, h, w, 1).
  told: what the network is told of it (`conditioning`).
  labels: as of `UNet.__call__`, and so ``dropout_keys``.

Returns:
  What the network predicts, and behind it the variance if it learns one.
"""


def make_denoise(
    config: NetworkConfig, schedule: Schedule, lora: LoRAConfig = NO_LORA
) -> Denoise:
    """The call of a base; to be used inside ``jax.jit``."""
    apply, clock = make_apply(config, lora), schedule.clock

    def denoise(
        params: Params,
        x: Images,
        level: LogLevels,
        told: Noise,
        labels: Labels | None = None,
        dropout_keys: PRNGKeys | None = None,
    ) -> Outputs:
        scale = clock.input_scale(level)
        scaled = x if scale is None else scale * x
        return apply(params, scaled, told, labels, dropout_keys=dropout_keys)

    return denoise
