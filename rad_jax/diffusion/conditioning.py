"""What the network is told of the noise at a step (``UNetConfig.noise_embedding``).

"spatial" is RAD's: the level of every pixel, as two levels and their maps where the
mask is binary, and as a map of timesteps where it is soft (RAD Sec. 3.3). "time" is one
timestep for the whole image, whatever its mask: the network is left to see for itself
where the noise is, as in the paper's ablation (RAD Table 3, Cfg. 2; for a pretrained
ADM, Cfg. 1).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rad_jax.diffusion.schedule import (
    Schedule,
    Step,
    log_level,
    time_timestep,
    timestep_map,
)
from rad_jax.models.config import UNetConfig
from rad_jax.models.noise_embedding import Noise, NoiseLevels, NoiseMap, membership
from rad_jax.typing import LogLevels, Masks


def told_noise(
    config: UNetConfig,
    schedule: Schedule,
    masks: Masks,
    share: LogLevels,
    *,
    binary: bool,
) -> Callable[[Step], Noise]:
    """A function of the step; what depends on the masks alone is made here, once.

    Args:
      config: the network's.
      schedule: the noise.
      masks: (b, h, w).
      share: theirs, (b, h, w, 1) (``schedule.hole_share``).
      binary: whether all masks are 0 and 1 only; not asked for by "time".

    Returns:
      What a step, of scalars or of one number for each image, tells the network.
    """
    count = len(masks)

    def two_levels(step: Step):
        return jnp.broadcast_to(step.timesteps, (count, 2))

    if config.noise_embedding == "time":
        return lambda step: NoiseLevels(time_timestep(schedule, two_levels(step)))
    if binary:
        weights = membership(masks, config.num_resolutions)
        return lambda step: NoiseLevels(two_levels(step), weights)

    def dense(step: Step) -> Noise:
        signal = jax.tree.map(lambda x: jnp.broadcast_to(x, (count,)), step.t)
        level = jax.vmap(log_level)(signal, share)
        return NoiseMap(timestep_map(schedule, level)[..., 0])

    return dense
