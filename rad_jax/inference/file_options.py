"""What can be chosen of picture files that a model makes; importable without JAX."""

import dataclasses

from rad_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class FileOptions:
    """How pictures are made of files, whatever the model and its sampler.

    Attributes:
      seed: 0 .. 2**32 - 1; another seed gives other results.
      num_samples: results for each picture, >= 1.
      batch_size: images at once at most, >= 1; fewer where the memory is too little.
      invert_mask: black is the hole instead of white.
      opaque_hole: make filled pixels opaque; False keeps the picture's alpha, as None
        does, which says where that hides the filling.
      overwrite: replace files of the same names (`inpaint` always does).

    Raises:
      UserError: a number is out of its range.
    """

    seed: int = 0
    num_samples: int = 1
    batch_size: int = 16
    invert_mask: bool = False
    opaque_hole: bool | None = None
    overwrite: bool = False

    def __post_init__(self):
        """Refuses what makes no sense."""
        require_seed(self.seed)
        for name in ("num_samples", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be >= 1")


def require_seed(seed: int) -> None:
    """Raises UserError for a number that is no seed."""
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}; it must lie in 0 .. 2**32 - 1")
