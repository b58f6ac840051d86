"""How pictures larger than the model are filled, as a value; importable without JAX."""

import dataclasses
import math

from rad_jax.diffusion.options import require_one_of
from rad_jax.errors import UserError

STRATEGIES = ("auto", "whole", "crop", "resize", "tile")


@dataclasses.dataclass(frozen=True)
class StrategyOptions:
    """How pictures larger than the model are filled.

    Attributes:
      strategy: one of `STRATEGIES`; see `regions.plan`.
      context: known pixels around a part of the hole, on each side, as a share of the
        part's larger side; > 0.

    Raises:
      UserError: the strategy is unknown, or the context makes no sense.
    """

    strategy: str = "auto"
    context: float = 0.5

    def __post_init__(self):
        """Refuses what makes no sense."""
        require_one_of("strategy", self.strategy, STRATEGIES)
        if not (math.isfinite(self.context) and 0 < self.context <= 100):
            raise UserError(f"context is {self.context}; it must lie in (0, 100]")
