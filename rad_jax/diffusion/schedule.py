"""The two-phase, pixel-wise noise schedule (RAD Sec. 3.2) and its inverse (Sec. 3.4).

Write ``H_t`` for the log alpha-bar of a pixel inside the hole (m = 1) and ``K_t`` for
that of a known pixel (m = 0). Phase 1 lowers ``H`` from 0 to ``L`` by T1 DDPM steps
while ``K = 0``; phase 2 holds ``H = L`` and lowers ``K`` from 0 to ``L`` by T2 steps,
normalised to the same total ``L``, so that all pixels end alike. A pixel of mask value
``m`` has the hole weight ``r(m) = log(1 - nu m) / L``, with ``nu = 1 - exp(L)``,
and for every t

    log abar_t(m) = r(m) H_t + (1 - r(m)) K_t                                    (M1)

So a schedule is two scalars for a time and one map for a mask: no branches, no table
for each pixel. Tables are NumPy float64 and cast to float32 once, differences between
two times included: in float32 they would lose four digits.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rad_jax.diffusion.betas import ADM_STEPS, KINDS, make_betas, scaled_ends
from rad_jax.errors import UserError
from rad_jax.typing import LogLevel, Mask, Timesteps


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Betas of both phases and of the network's own timesteps.

    What the network is told of a level is a timestep of the process that its base model
    was trained on: DDPM with betas of the same kind, `base_steps` of them.

    Attributes:
      kind: "linear" betas, or ADM's "cosine", in both phases and in the table of
        timesteps that the network is conditioned on.
      hole_steps: T1, number of noising steps of phase 1.
      known_steps: T2, number of noising steps of phase 2; 0 leaves phase 2 out.
      hole_betas: first and last beta of phase 1 ("linear" only).
      known_betas: first and last beta of phase 2, before its normalisation.
      timestep_offset: added to every timestep shown to the network. 0 makes a uniform
        level plain ADM; 1 is the table of the authors' code (docs/parity.md).
      base_steps: N, timesteps of the base model's process: 1000 of ADM, 4000 of most of
        iDDPM's. Its linear betas are those of 1000 steps times 1000 / N.
      timestep_scale: what timesteps are multiplied by before they are shown: 1000 / N
        where iDDPM was trained with rescale_timesteps.
    """

    kind: str = "linear"
    hole_steps: int = 1000
    known_steps: int = 1000
    hole_betas: tuple[float, float] = scaled_ends(ADM_STEPS)
    known_betas: tuple[float, float] = scaled_ends(ADM_STEPS)
    timestep_offset: int = 0
    base_steps: int = ADM_STEPS
    timestep_scale: float = 1.0

    def __post_init__(self):
        """Refuses values that make no schedule."""
        if self.kind not in KINDS:
            raise UserError(f"schedule.kind is {self.kind!r}; use 'linear' or 'cosine'")
        if self.hole_steps < 1 or self.known_steps < 0:
            raise UserError("schedule.hole_steps must be >= 1 and known_steps >= 0")
        if self.base_steps < 1:
            raise UserError(f"schedule.base_steps is {self.base_steps}; give 1 or more")
        if self.kind == "linear" and scaled_ends(self.base_steps)[1] >= 1:
            raise UserError(
                f"schedule.base_steps is {self.base_steps}; linear betas of so few are "
                "no probabilities, give more than 20"
            )
        if not 0 < self.timestep_scale < math.inf:
            raise UserError(
                f"schedule.timestep_scale is {self.timestep_scale}; it must be positive"
            )
        for name in ("hole_betas", "known_betas"):
            start, end = getattr(self, name)
            if not 0 < start <= end < 1:
                raise UserError(f"schedule.{name} must satisfy 0 < first <= last < 1")

    @property
    def largest_timestep(self) -> float:
        """N as the network is told it: one more step than its noisiest level."""
        return self.base_steps * self.timestep_scale


class LogSignal(NamedTuple):
    """Log alpha-bar of a hole pixel and of a known one, or a difference of such."""

    hole: Any
    known: Any


class Step(NamedTuple):
    """One reverse step t -> s < t as data: float32 scalars, or stacks of them.

    Attributes:
      t: levels at time t.
      s: levels at time s.
      delta: t - s, the log of a_{t|s}, taken in float64.
      previous: levels at the time before t in the sampler's grid (t itself at first);
        multistep solvers look back at it.
      timesteps: (.., 2), the network's of known pixels and of the hole at t, the order
        of its membership maps.
      variance_floor: log of the posterior variance that ADM puts in place of the zero
        of a pixel's first noising step, over that step's beta.
      time: t itself, int32.
      active: False where the step is padding to be skipped.
    """

    t: LogSignal
    s: LogSignal
    delta: LogSignal
    previous: LogSignal
    timesteps: Any
    variance_floor: Any
    time: Any
    active: Any


class Schedule(NamedTuple):
    """Float64 tables over t = 0 .. T1 + T2 (host side; see the module's text).

    Attributes:
      config: what they are of.
      signal: H and K of (M1) at each t.
      log_total: L.
      base_log_alpha_bar: of the base model, after 0, 1, .., N steps of its process.
    """

    config: ScheduleConfig
    signal: LogSignal
    log_total: float
    base_log_alpha_bar: np.ndarray

    @property
    def num_steps(self) -> int:
        """T = T1 + T2."""
        return self.config.hole_steps + self.config.known_steps


def make_schedule(config: ScheduleConfig) -> Schedule:
    """Builds the tables of (M1) (RAD Sec. 3.2).

    Bringing phase 2 to the total of phase 1 is the normalisation that the paper leaves
    to its supplement.
    """

    def log_alpha_bar(steps: int, ends: tuple[float, float]) -> np.ndarray:
        betas = make_betas(config.kind, steps, ends)
        return np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])

    hole = log_alpha_bar(config.hole_steps, config.hole_betas)
    known = log_alpha_bar(config.known_steps, config.known_betas)
    log_total = float(hole[-1])
    if config.known_steps:
        known = known * (log_total / known[-1])
    signal = LogSignal(
        hole=np.concatenate([hole, np.full(config.known_steps, log_total)]),
        known=np.concatenate([np.zeros(config.hole_steps), known]),
    )
    base = log_alpha_bar(config.base_steps, scaled_ends(config.base_steps))
    return Schedule(config, signal, log_total, base)


def steps(schedule: Schedule, t: np.ndarray, s: np.ndarray) -> Step:
    """The reverse steps t[i] -> s[i], stacked, cast to float32 at the very end.

    Args:
      schedule: the tables.
      t: int (n,), times in 1 .. T.
      s: int (n,), times in 0 .. t - 1.

    Returns:
      A Step of arrays with leading axis n. ``previous`` assumes that step i - 1 of
      the stack was made before step i.
    """
    t, s = np.asarray(t), np.asarray(s)
    if not (np.all(s >= 0) and np.all(s < t) and np.all(t <= schedule.num_steps)):
        raise ValueError(f"steps need 0 <= s < t <= {schedule.num_steps}")

    def at(times: np.ndarray) -> LogSignal:
        return LogSignal(schedule.signal.hole[times], schedule.signal.known[times])

    def cast(signal: LogSignal) -> LogSignal:
        return LogSignal(np.float32(signal.hole), np.float32(signal.known))

    level_t, level_s = at(t), at(s)
    delta = LogSignal(level_t.hole - level_s.hole, level_t.known - level_s.known)
    return Step(
        t=cast(level_t),
        s=cast(level_s),
        delta=cast(delta),
        previous=cast(at(np.concatenate([t[:1], t[:-1]]))),
        timesteps=level_timesteps(schedule, t),
        variance_floor=np.float32(_variance_floor(schedule, t)),
        time=t.astype(np.int32),
        active=np.ones(t.shape, bool),
    )


def require_steps(schedule: Schedule, num_steps: int) -> None:
    """Raises UserError for no steps, or for more than phase 1 has."""
    last = schedule.config.hole_steps
    if not 1 <= num_steps <= last:
        raise UserError(f"steps is {num_steps}; it must lie in 1 .. {last}")


def _variance_floor(schedule: Schedule, t: np.ndarray) -> np.ndarray:
    """log(btilde_2 / b_1) of the phase that t is in: ADM's clipped log-variance."""
    config, signal = schedule.config, schedule.signal

    def ratio(log_alpha_bar: np.ndarray) -> float:
        if len(log_alpha_bar) < 3:
            return 0.0
        first, second = log_alpha_bar[1], log_alpha_bar[2]
        beta_2 = -np.expm1(second - first)
        return float(np.log(beta_2 / -np.expm1(second)))

    hole = ratio(signal.hole[: config.hole_steps + 1])
    known = ratio(signal.known[config.hole_steps :])
    return np.where(t <= config.hole_steps, hole, known)


def level_timesteps(schedule: Schedule, t: np.ndarray) -> np.ndarray:
    """Timesteps shown for known pixels and for the hole at time t, float32 (.., 2).

    Interpolates in float64, so that a level which plain DDPM also has gives its
    integer exactly (RAD Sec. 3.4).
    """
    config, table = schedule.config, -np.expm1(schedule.base_log_alpha_bar)
    k = np.arange(-1, config.base_steps, dtype=np.float64)
    signal = schedule.signal
    levels = np.stack([signal.known[t], signal.hole[t]], -1)
    timesteps = np.interp(-np.expm1(levels), table, k) + config.timestep_offset
    return (timesteps * config.timestep_scale).astype(np.float32)


def time_timestep(
    schedule: Schedule, timesteps: Float[Array, "*shape 2"]
) -> Float[Array, "*shape 1"]:
    """One timestep that tells the time of the process, for all of an image.

    The hole's own in phase 1, where the known pixels are clean. In phase 2, where the
    hole no longer changes, it goes on counting: N more than that of the known pixels
    (``ScheduleConfig.largest_timestep``). With phases of ADM's 1000 steps it is t - 1
    throughout. RAD's ablation (Table 3, "t embedding") leaves open what its network was
    conditioned on.

    Args:
      schedule: the tables.
      timesteps: of known pixels and of the hole, as ``Step.timesteps``.
    """
    config, known, hole = schedule.config, timesteps[..., :1], timesteps[..., 1:]
    clean = (config.timestep_offset - 1) * config.timestep_scale
    return jnp.where(known > clean, config.largest_timestep + known, hole)


def mask_to_hole_weight(schedule: Schedule, mask: Mask) -> LogLevel:
    """r(m) of (M1), (h, w, 1): the mask itself where it is 0 or 1."""
    signal_left = float(np.exp(schedule.log_total))
    m = mask[..., None]
    nu_m = m * float(-np.expm1(schedule.log_total))
    # Near m = 1 the logarithm needs 1 - nu m without cancellation.
    log = jnp.where(m < 0.5, jnp.log1p(-nu_m), jnp.log((1 - m) + m * signal_left))
    return jnp.where(m >= 1, 1.0, log / schedule.log_total)


def log_level(signal: LogSignal, hole_weight: LogLevel) -> LogLevel:
    """(M1): the log alpha-bar of every pixel, or log a_{t|s} from a difference."""
    return hole_weight * signal.hole + (1 - hole_weight) * signal.known


def timestep_map(
    schedule: Schedule, log_alpha_bar: Float[Array, "*shape"]
) -> Timesteps:
    """Timestep shown for every pixel's level (RAD Sec. 3.4), any shape, float32.

    Linear interpolation of the level in the base's table (after 0, 1, .., N steps) ->
    (-1, 0, .., N - 1), which is then scaled. Noisy levels are looked up by their signal
    and clean ones by their noise: either alone would lose its digits at the other end.
    """
    config, table = schedule.config, schedule.base_log_alpha_bar
    k = jnp.arange(-1, config.base_steps, dtype=jnp.float32)
    by_noise = jnp.interp(-jnp.expm1(log_alpha_bar), np.float32(-np.expm1(table)), k)
    by_signal = jnp.interp(-jnp.exp(log_alpha_bar), np.float32(-np.exp(table)), k)
    timesteps = jnp.where(log_alpha_bar > np.log(0.5), by_noise, by_signal)
    return (timesteps + config.timestep_offset) * config.timestep_scale
