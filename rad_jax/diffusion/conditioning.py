"""How the network is conditioned on the noise (``UNetConfig.noise_embedding``).

"spatial" is RAD's: the level of every pixel, as two levels and their maps where the
mask is binary, and as a map of timesteps where it is soft (RAD Sec. 3.3). "time" is one
timestep for the whole image, whatever its mask: the network has to see for itself
where the noise is, as in the paper's ablation (RAD Table 3, Cfg. 2; for a pretrained
ADM, Cfg. 1).
"""

from collections.abc import Callable

import jax.numpy as jnp

from rad_jax.diffusion.clock import time_timestep
from rad_jax.diffusion.schedule import Schedule, Step, levels_at
from rad_jax.models.network import NetworkConfig
from rad_jax.models.noise_embedding import Noise, NoiseLevels, NoiseMap, membership
from rad_jax.typing import LogLevels, Masks


def conditioning(
    config: NetworkConfig,
    schedule: Schedule,
    masks: Masks,
    hole_weight: LogLevels,
    *,
    binary: bool,
) -> Callable[[Step], Noise]:
    """A function of the step; what depends on the masks alone is made here, once.

    Args:
      config: the network's.
      schedule: the noise.
      masks: (b, h, w).
      hole_weight: of the masks, (b, h, w, 1) (``schedule.mask_to_hole_weight``).
      binary: whether all masks are 0 and 1 only; not asked for by "time".

    Returns:
      ``condition(step)``: the network's noise input at a step, whose fields are scalars
      or have one number for each image.
    """
    count = len(masks)

    def two_levels(step: Step):
        return jnp.broadcast_to(step.timesteps, (count, 2))

    if config.noise_embedding == "time":
        return lambda step: NoiseLevels(time_timestep(schedule.clock, two_levels(step)))
    if binary:
        weights = membership(masks, config.num_resolutions)
        return lambda step: NoiseLevels(two_levels(step), weights)

    def dense(step: Step) -> Noise:
        return NoiseMap(schedule.clock.told(levels_at(step, hole_weight))[..., 0])

    return dense
