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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rad_jax.diffusion.clock import Clock, log_alpha_bar, make_clock, process
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.typing import LogLevel, LogLevels, Mask

LEAST_SHARE = 1e-5
"""Of its time, at which a continuous process is trained (score_sde)."""


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
      s_timesteps: (.., 2), the same at s.
      variance_floor: log of the posterior variance that ADM puts in place of the zero
        of a pixel's first noising step, over that step's beta.
      time: t itself, int32.
      s_time: s itself.
      active: False where the step is padding to be skipped.
    """

    t: LogSignal
    s: LogSignal
    delta: LogSignal
    previous: LogSignal
    timesteps: Any
    s_timesteps: Any
    variance_floor: Any
    time: Any
    s_time: Any
    active: Any


class Schedule(NamedTuple):
    """Float64 tables over t = 0 .. T1 + T2 (host side; see the module's text).

    Attributes:
      config: what they are of.
      signal: H and K of (M1) at each t.
      log_total: L.
      clock: what the base's network is told of a level.
    """

    config: ScheduleConfig
    signal: LogSignal
    log_total: float
    clock: Clock

    @property
    def num_steps(self) -> int:
        """T = T1 + T2."""
        return self.config.hole_steps + self.config.known_steps


def make_schedule(config: ScheduleConfig) -> Schedule:
    """Builds the tables of (M1) (RAD Sec. 3.2).

    Bringing phase 2 to the total of phase 1 is the normalisation that the paper leaves
    to its supplement; phases of a continuous process are alike.
    """
    hole, known = (
        _phase(config, steps, ends)
        for steps, ends in (
            (config.hole_steps, config.hole_betas),
            (config.known_steps, config.known_betas),
        )
    )
    log_total = float(hole[-1])
    if config.known_steps:
        known = known * (log_total / known[-1])
    signal = LogSignal(
        hole=np.concatenate([hole, np.full(config.known_steps, log_total)]),
        known=np.concatenate([np.zeros(config.hole_steps), known]),
    )
    return Schedule(config, signal, log_total, make_clock(config))


def _phase(config: ScheduleConfig, steps: int, ends: tuple[float, float]) -> np.ndarray:
    """Log alpha-bar of the pixels that a phase is of, after 0, 1, .., all its steps."""
    if not config.is_continuous:
        return log_alpha_bar(config.kind, steps, ends)
    # A VE process begins with its least noise: its first step comes from clean pixels.
    shares = np.arange(1, steps + 1) / max(steps, 1)
    return np.concatenate([[0.0], process(config).level(shares)])


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

    def told(signal: LogSignal) -> np.ndarray:
        levels = np.stack([signal.known, signal.hole], -1)
        return schedule.clock.exact(levels).astype(np.float32)

    level_t, level_s = at(t), at(s)
    delta = LogSignal(level_t.hole - level_s.hole, level_t.known - level_s.known)
    return Step(
        t=cast(level_t),
        s=cast(level_s),
        delta=cast(delta),
        previous=cast(at(np.concatenate([t[:1], t[:-1]]))),
        timesteps=told(level_t),
        s_timesteps=told(level_s),
        variance_floor=np.float32(_variance_floor(schedule, t)),
        time=t.astype(np.int32),
        s_time=s.astype(np.int32),
        active=np.ones(t.shape, bool),
    )


def unit_steps(schedule: Schedule) -> Step:
    """The steps t -> t - 1 of all times; that of t is number t - 1 of the stack."""
    times = np.arange(1, schedule.num_steps + 1)
    return jax.tree.map(jnp.asarray, steps(schedule, times, times - 1))


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


def levels_at(step: Step, hole_weight: LogLevels) -> LogLevels:
    """(M1) at t of a batch, whose step has scalars or a number for each image."""
    count = (len(hole_weight),)
    signal = LogSignal(*(jnp.broadcast_to(x, count) for x in step.t))
    return jax.vmap(log_level)(signal, hole_weight)


def step_at(schedule: Schedule, time: Float[Array, ""]) -> Step:
    """The levels at a time between steps, of a continuous process: what it trains on.

    Args:
      schedule: of a continuous process.
      time: in (0, T].

    Returns:
      A Step that does not move.
    """
    config, clock = schedule.config, schedule.clock
    after = (time - config.hole_steps) / max(config.known_steps, 1)
    shares = jnp.stack([time / config.hole_steps, after])
    level = process(config).level(jnp.clip(shares, LEAST_SHARE, 1.0))
    hole, known = jnp.where(shares > 0, level, 0.0)
    level, still = LogSignal(hole, known), LogSignal(jnp.zeros(()), jnp.zeros(()))
    timesteps = clock.told(jnp.stack([known, hole]))
    count = jnp.ceil(time).astype(jnp.int32)
    return Step(
        t=level,
        s=level,
        delta=still,
        previous=level,
        timesteps=timesteps,
        s_timesteps=timesteps,
        variance_floor=jnp.zeros(()),
        time=count,
        s_time=count,
        active=jnp.ones((), bool),
    )


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
