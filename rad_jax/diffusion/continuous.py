"""The processes of score-based SDEs (Song et al. 2021, App. B) as log levels.

Each is a profile ``l(u)``, the log alpha-bar after the share u of its time, of the
variance-preserving process of the same signal-to-noise ratio. So what is diffused has
one form, whatever the base; of a base remain two point-wise functions of the level:
what its network is told, and the factor that its input has. All three take arrays of
NumPy and of JAX: in float64 for tables, in float32 for maps and in training.
"""

import math
from typing import Any, NamedTuple

Levels = Any
"""Log alpha-bar, <= 0 (0: clean), of any shape; or what becomes of it."""

BETA_MIN, BETA_MAX = 0.1, 20.0
"""Of the VP and sub-VP processes of all published models."""

SIGMAS = (0.01, 50.0)
"""Least and largest noise of a VE process: those of the CIFAR-10 models."""

CONTINUOUS = ("vp", "subvp", "ve", "ve_index")
"""Kinds of `process_of`."""

EXPLODING = ("ve", "ve_index")
"""Those of `VE`."""

TOLD_AT_END = 999.0
"""Networks of VP processes are told times from 0 to it."""


class VP(NamedTuple):
    """Variance preserving, dx = -beta(u) x / 2 du + sqrt(beta(u)) dw (DDPM++)."""

    clean: float = 0.0

    def level(self, u: Any) -> Levels:
        """-int_0^u beta."""
        return -u * (BETA_MIN + 0.5 * (BETA_MAX - BETA_MIN) * u)

    def told(self, level: Levels) -> Levels:
        """999 u."""
        return TOLD_AT_END * _time(level)

    def input_scale(self, level: Levels) -> None:
        """The process is that of RAD."""


class SubVP(NamedTuple):
    """VP with less noise: deviation 1 - a beside the signal sqrt(a)."""

    clean: float = 0.0

    def level(self, u: Any) -> Levels:
        """Of the same ratio a / (1 - a)^2."""
        log_a = VP().level(u)
        xp = log_a.__array_namespace__()
        return -xp.log1p(xp.square(xp.expm1(log_a)) * xp.exp(-log_a))

    def told(self, level: Levels) -> Levels:
        """999 u."""
        xp = level.__array_namespace__()
        deviation, noise = self._deviation(level), xp.expm1(-level)
        # a = (1 - a)^2 / noise, for few digits are left in 1 - deviation where a is
        # small.
        clean = level > -1
        log_ratio = xp.log(
            xp.where(clean, 1.0, deviation**2 / xp.where(clean, 1.0, noise))
        )
        log_a = xp.where(clean, xp.log1p(-xp.where(clean, deviation, 0.0)), log_ratio)
        return TOLD_AT_END * _time(log_a)

    def input_scale(self, level: Levels) -> Levels:
        """sqrt(a + (1 - a)^2)."""
        xp = level.__array_namespace__()
        deviation = self._deviation(level)
        return xp.sqrt(1 - deviation + xp.square(deviation))

    @staticmethod
    def _deviation(level: Levels) -> Levels:
        """1 - a, of the larger root of its quadratic equation; 0 where clean."""
        xp = level.__array_namespace__()
        noise = xp.expm1(-level)  # over signal
        root = xp.sqrt(noise)
        return 2 * root / (root + xp.sqrt(noise + 4))


class VE(NamedTuple):
    """Variance exploding, x_0 + sigma z with geometric sigma (NCSN++).

    Sigmas are of data in [0, 1]; ours is in [-1, 1], where they are twice as large.

    Attributes:
      sigmas: least and largest.
      steps: N, where the network is told its index among so many sigmas, from the
        largest on; 0 where it is told log sigma.
      unit_input: the network sees x_0 + 2 sigma z over sqrt(1 + (2 sigma)^2), RAD's
        own process; c_in of EDM (Karras et al. 2022).
    """

    sigmas: tuple[float, float]
    steps: int = 0
    unit_input: bool = False

    @property
    def clean(self) -> float:
        """Of the least noise that it knows: there is no logarithm of 0."""
        return self.steps - 1.0 if self.steps else math.log(self.sigmas[0])

    def level(self, u: Any) -> Levels:
        """-log(1 + (2 sigma)^2)."""
        xp = u.__array_namespace__()
        least, largest = self.sigmas
        log_sigma = math.log(least) + u * math.log(largest / least)
        return -xp.log1p(4 * xp.exp(2 * log_sigma))

    def told(self, level: Levels) -> Levels:
        """Log sigma, or its index."""
        xp = level.__array_namespace__()
        least, largest = self.sigmas
        noise = xp.maximum(xp.expm1(-level), least**2)  # no logarithm of 0
        log_sigma = 0.5 * xp.log(noise) - math.log(2)
        log_sigma = xp.maximum(log_sigma, math.log(least))
        if not self.steps:
            return log_sigma
        share = (log_sigma - math.log(least)) / math.log(largest / least)
        return (self.steps - 1) * (1 - share)

    def input_scale(self, level: Levels) -> Levels | None:
        """Of the signal to 1: the network sees x_0 + 2 sigma z; unless `unit_input`."""
        if self.unit_input:
            return None
        xp = level.__array_namespace__()
        return xp.exp(-0.5 * level)


Process = VP | SubVP | VE
"""Attribute ``clean``: what the network is told of a clean pixel. ``level(u)``: log
alpha-bar after the share u of its time, in (0, 1]. ``told(level)``: what the network is
told of it. ``input_scale(level)``: its input over that of the variance-preserving
process, None for 1.
"""


def process_of(
    kind: str, sigmas: tuple[float, float], steps: int, unit_input: bool
) -> Process:
    """The process of one of `CONTINUOUS`.

    Args:
      kind: "vp"; "subvp"; "ve"; or "ve_index", told an index.
      sigmas: of "ve" and "ve_index".
      steps: of "ve_index".
      unit_input: of "ve" and "ve_index".
    """
    if kind in EXPLODING:
        return VE(sigmas, steps if kind == "ve_index" else 0, unit_input)
    return VP() if kind == "vp" else SubVP()


def _time(level: Levels) -> Levels:
    """U of a level of the VP process, without cancellation near 0."""
    xp = level.__array_namespace__()
    slope = BETA_MAX - BETA_MIN
    return -2 * level / (BETA_MIN + xp.sqrt(BETA_MIN**2 - 2 * slope * level))
