"""What a base's network knows of noise: its clock.

RAD diffuses every pixel by one process (`schedule`); the base was trained on another,
whose levels it was told by numbers of its own. A clock gives that number for any level
(RAD Sec. 3.4), and the factor between RAD's noisy images and what the base was given.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rad_jax.diffusion.betas import make_betas, scaled_ends
from rad_jax.diffusion.continuous import Process, process_of
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.typing import Timesteps

HostLevels = Float[np.ndarray, "*shape"]


class DiscreteClock:
    """Of DDPM's processes, whose levels are steps: the network is told which.

    Levels after 0, 1, .., N steps are told as -1, 0, .., N - 1, and those between them
    as fractions; the offset is added, and the sum scaled.

    Attributes:
      table: log alpha-bar after 0, 1, .., N steps, float64.
      clean: what is told of a clean pixel.
      span: N as it is told: one more step than the noisiest level.
    """

    def __init__(self, config: ScheduleConfig):
        """Makes the table."""
        steps = config.base_steps
        # Bases of latent diffusion differ in their ends, so a schedule has them.
        own = config.kind == "scaled_linear"
        ends = config.hole_betas if own else scaled_ends(steps)
        self.table = log_alpha_bar(config.kind, steps, ends)
        self._offset, self._scale = config.timestep_offset, config.timestep_scale
        self.clean = (self._offset - 1) * self._scale
        self.span = steps * self._scale

    def exact(self, level: HostLevels) -> HostLevels:
        """What is told of a level, in float64.

        So a level which plain DDPM also has gives its integer exactly.
        """
        k = np.arange(-1, len(self.table) - 1, dtype=np.float64)
        timesteps = np.interp(-np.expm1(level), -np.expm1(self.table), k)
        return (timesteps + self._offset) * self._scale

    def told(self, level: Float[Array, "*shape"]) -> Timesteps:
        """The same in float32.

        Noisy levels are looked up by their signal and clean ones by their noise: either
        alone would lose its digits at the other end.
        """
        table = self.table
        k = jnp.arange(-1, len(table) - 1, dtype=jnp.float32)
        by_noise = jnp.interp(-jnp.expm1(level), np.float32(-np.expm1(table)), k)
        by_signal = jnp.interp(-jnp.exp(level), np.float32(-np.exp(table)), k)
        timesteps = jnp.where(level > np.log(0.5), by_noise, by_signal)
        return (timesteps + self._offset) * self._scale

    def input_scale(self, level: Any) -> None:
        """RAD's process is of the same kind."""


class ContinuousClock:
    """Of score-based SDEs; attributes as of `DiscreteClock`."""

    def __init__(self, process: Process):
        """Takes a process."""
        self._process = process
        self.clean = process.clean
        (end,) = process.told(process.level(np.ones(1)))
        self.span = float(end) - self.clean

    def exact(self, level: HostLevels) -> HostLevels:
        """What is told of a level, in float64."""
        return self._process.told(level)

    def told(self, level: Float[Array, "*shape"]) -> Timesteps:
        """The same in float32."""
        return self._process.told(level)

    def input_scale(self, level: Float[Array, "*shape"]) -> Array | None:
        """The network's input over ours; None for 1."""
        return self._process.input_scale(level)


Clock = DiscreteClock | ContinuousClock


def make_clock(config: ScheduleConfig) -> Clock:
    """The clock of the base of a schedule."""
    if config.is_continuous:
        return ContinuousClock(process(config))
    return DiscreteClock(config)


def process(config: ScheduleConfig) -> Process:
    """The process of a schedule that is continuous."""
    return process_of(config.kind, config.sigmas, config.base_steps, config.unit_input)


def log_alpha_bar(kind: str, steps: int, ends: tuple[float, float]) -> np.ndarray:
    """After 0, 1, .., so many steps of a discrete process, float64."""
    betas = make_betas(kind, steps, ends)
    return np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])


def time_timestep(
    clock: Clock, timesteps: Float[Array, "*shape 2"]
) -> Float[Array, "*shape 1"]:
    """One number that tells the time of RAD's process, for all of an image.

    The hole's own in phase 1, where the known pixels are clean. In phase 2, where the
    hole no longer changes, it goes on counting: ``span`` more than that of the known
    pixels. With phases of ADM's 1000 steps it is t - 1 throughout. RAD's ablation
    (Table 3, "t embedding") leaves open what its network was conditioned on.

    Args:
      clock: the base's.
      timesteps: of known pixels and of the hole, as ``Step.timesteps``.
    """
    known, hole = timesteps[..., :1], timesteps[..., 1:]
    return jnp.where(known != jnp.float32(clock.clean), clock.span + known, hole)
