"""How whole images are drawn, as a value that is checked when made; without JAX."""

import dataclasses
from collections.abc import Sequence

from rad_jax.diffusion.options import METHODS, require_ddim, require_one_of


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """How whole images are drawn, as guided-diffusion does.

    Attributes:
      respacing: which timesteps: "250", "10,20,30" or "ddim25"; see `respacing`.
      sampler: one of `METHODS`.
      eta: of "ddim": its share of the ancestral noise, 0 to 1.
      num_samples: how many; None for one for each class or low-resolution picture
        that is given, whichever are more.
      classes: of the images, over and over; None: drawn from the seed where the model
        has classes.

    Raises:
      UserError: the sampler is unknown, or eta makes no sense beside it.
    """

    respacing: str = "250"
    sampler: str = "ddpm"
    eta: float = 0.0
    num_samples: int | None = None
    classes: Sequence[int] | None = None

    def __post_init__(self):
        """Refuses what no model can do."""
        require_one_of("sampler", self.sampler, METHODS)
        require_ddim(self.eta, self.sampler)
