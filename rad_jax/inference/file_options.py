"""What can be chosen of picture files that a model makes; importable without JAX."""

import dataclasses

from rad_jax.errors import UserError
from rad_jax.files.mask_pattern import MaskPattern

MOST_PIXELS = 10_000
"""Of growing and softening a hole; a softer rim would be none in float32."""


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
      recursive: take folders within folders.
      mask_pattern: names of masks, see `MaskPattern`; None finds them by other rules.
      alpha_hole: the hole is the picture's own transparent part, which becomes opaque.
      dilate: pixels that the hole grows by, 0 .. 10,000.
      feather: pixels of the hole's soft rim, 0 .. 10,000.
      extend: pixels of a border that is added and filled: to the left, above, to the
        right, below; each 0 .. 10,000.
      format: of results, one of `formats.FORMATS`; None for that of the output's
        suffix, or PNG.
      quality: of JPEG, 1 .. 100; None for `formats.QUALITY`.

    Raises:
      UserError: a number is out of its range, or two options contradict each other.
    """

    seed: int = 0
    num_samples: int = 1
    batch_size: int = 16
    invert_mask: bool = False
    opaque_hole: bool | None = None
    overwrite: bool = False
    recursive: bool = False
    mask_pattern: str | None = None
    alpha_hole: bool = False
    dilate: int = 0
    feather: int = 0
    extend: tuple[int, int, int, int] = (0, 0, 0, 0)
    format: str | None = None
    quality: int | None = None

    def __post_init__(self):
        """Refuses what makes no sense."""
        require_seed(self.seed)
        require_counts(num_samples=self.num_samples, batch_size=self.batch_size)
        for name in ("dilate", "feather"):
            if not 0 <= getattr(self, name) <= MOST_PIXELS:
                raise UserError(
                    f"{name} is {getattr(self, name)}; it must lie in "
                    f"0 .. {MOST_PIXELS} pixels"
                )
        if len(self.extend) != 4 or not all(0 <= x <= MOST_PIXELS for x in self.extend):
            raise UserError(
                f"extend is {','.join(map(str, self.extend))}; give left,top,right,"
                f"bottom, each 0 .. {MOST_PIXELS} pixels"
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UserError(f"quality is {self.quality}; it must lie in 1 .. 100")
        if self.mask_pattern is not None:
            MaskPattern(self.mask_pattern)  # refuses what is none
        if self.alpha_hole:
            self._check_alpha_hole()

    def _check_alpha_hole(self):
        if self.mask_pattern is not None:
            raise UserError("mask alpha needs no masks; leave mask_pattern out")
        if self.opaque_hole is False:
            raise UserError(
                "mask alpha makes the filled pixels opaque, keep_alpha would hide "
                "them; leave keep_alpha out"
            )
        object.__setattr__(self, "opaque_hole", True)


def require_counts(**counts: int) -> None:
    """Raises UserError, with its name, for a number that is none of things."""
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} is {count}; it must be >= 1")


def require_seed(seed: int) -> None:
    """Raises UserError for a number that is no seed."""
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}; it must lie in 0 .. 2**32 - 1")
