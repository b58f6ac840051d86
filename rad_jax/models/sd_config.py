"""The architecture of an `SDUNet` as data; its stages are those of `models.config`."""

import dataclasses
from collections.abc import Sequence

from rad_jax.errors import UserError
from rad_jax.models.config import GroupedUNet

ARCHITECTURE = "sd"


@dataclasses.dataclass(frozen=True)
class SDConfig(GroupedUNet):
    """Architecture of an `SDUNet`: the U-Net of Stable Diffusion 1.x and 2.x.

    Its images are latents: `image_size` is a side of those.

    Attributes:
      context_channels: width of the text states that it is told: 768 in 1.x, 1024 in
        2.x.
      architecture: "sd", which tells stored configurations apart.

    Others, and what is raised, as of `GroupedUNet`.
    """

    image_size: int
    model_channels: int
    channel_mult: Sequence[float | int]
    num_res_blocks: int
    attention_resolutions: Sequence[int]
    in_channels: int = 4
    out_channels: int = 4
    num_heads: int = 8
    num_head_channels: int = -1
    context_channels: int = 768
    dropout: float | int = 0.0
    dtype: str = "float32"
    use_remat: bool = False
    noise_embedding: str = "spatial"
    architecture: str = ARCHITECTURE

    def __post_init__(self):
        """Refuses what cannot be built."""
        super().__post_init__()
        self.check_choices(architecture=(ARCHITECTURE,))
        if self.context_channels < 1:
            raise UserError(
                f"context_channels is {self.context_channels}; it must be positive"
            )

    @property
    def output_channels(self) -> int:
        """Channels of the network's output."""
        return self.out_channels

    @property
    def learn_sigma(self) -> bool:
        """It predicts no variance."""
        return False

    @property
    def use_scale_shift_norm(self) -> bool:
        """The embedding is added."""
        return False

    @property
    def resblock_updown(self) -> bool:
        """Convolutions change the resolution."""
        return False

    @property
    def num_classes(self) -> None:
        """It has no labels."""
        return None
