"""What noise a model is for: RAD's two phases, and the process of its base."""

import dataclasses
import math

from rad_jax.diffusion.betas import ADM_STEPS, KINDS, scaled_ends
from rad_jax.diffusion.continuous import CONTINUOUS, EXPLODING, SIGMAS
from rad_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Betas of both phases and of the network's own timesteps.

    What the network is told of a level is a timestep of the process that its base model
    was trained on: DDPM with betas of the same kind, `base_steps` of them.

    Attributes:
      kind: "linear" betas, or ADM's "cosine", or latent diffusion's "scaled_linear", in
        both phases and in the table of timesteps that the network is conditioned on; or
        a process of score-based SDEs
        in continuous time, `continuous.CONTINUOUS`, which has none of what is said of
        betas and timesteps below.
      hole_steps: T1, number of noising steps of phase 1. Of a continuous process, into
        which its time is divided for sampling; it is trained at all times.
      known_steps: T2, number of noising steps of phase 2; 0 leaves phase 2 out.
      hole_betas: first and last beta of phase 1 (not "cosine"). Of "scaled_linear" also
        of the base model's process, whose ends do not follow from its steps: give those
        that it was trained with (`betas.STABLE_DIFFUSION`).
      known_betas: first and last beta of phase 2, before its normalisation.
      timestep_offset: added to every timestep shown to the network. 0 makes a uniform
        level plain ADM; 1 is the table of the authors' code (docs/parity.md).
      base_steps: N, timesteps of the base model's process: 1000 of ADM, 4000 of most of
        iDDPM's. Its linear betas are those of 1000 steps times 1000 / N.
      timestep_scale: what timesteps are multiplied by before they are shown: 1000 / N
        where iDDPM was trained with rescale_timesteps.
      sigmas: least and largest noise of the kinds "ve", for data in [0, 1].
      unit_input: of the kinds "ve": the network's input has unit variance, where that
        of the published ones has the variance of the noise (`continuous.VE`).
    """

    kind: str = "linear"
    hole_steps: int = 1000
    known_steps: int = 1000
    hole_betas: tuple[float, float] = scaled_ends(ADM_STEPS)
    known_betas: tuple[float, float] = scaled_ends(ADM_STEPS)
    timestep_offset: int = 0
    base_steps: int = ADM_STEPS
    timestep_scale: float = 1.0
    sigmas: tuple[float, float] = SIGMAS
    unit_input: bool = False

    def __post_init__(self):
        """Refuses values that make no schedule."""
        known = (*KINDS, *CONTINUOUS)
        if self.kind not in known:
            raise UserError(
                f"schedule.kind is {self.kind!r}; use one of {', '.join(known)}"
            )
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
        least, largest = self.sigmas
        if not 0 < least < largest < math.inf:
            raise UserError(
                f"schedule.sigmas is {self.sigmas}; it must satisfy 0 < least < largest"
            )
        if self.unit_input and self.kind not in EXPLODING:
            raise UserError(
                f"schedule.unit_input is of {' and '.join(EXPLODING)}; the input of "
                f"schedule.kind={self.kind} is what it is: set it to False"
            )

    @property
    def is_continuous(self) -> bool:
        """Whether its time is."""
        return self.kind in CONTINUOUS
