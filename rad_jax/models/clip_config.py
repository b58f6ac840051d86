"""The architecture of a `CLIPText` as data."""

import dataclasses

from rad_jax.errors import UserError
from rad_jax.models.architecture import DTYPES, Architecture

ACTIVATIONS = ("quick_gelu", "gelu")


def require_text(network: Architecture, text: "CLIPConfig | None") -> None:
    """Refuses an encoder whose states are not what a network is told, or none.

    Raises:
      UserError: saying which it needs.
    """
    told = getattr(network, "context_channels", None)
    width = text.width if text else None
    if told != width:
        needs = f"is told texts of {told} channels" if told else "is told no text"
        given = f"an encoder of {width} channels" if width else "no encoder of texts"
        raise UserError(f"the network {needs}, and the model has {given}")


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Architecture of a `CLIPText`; all but the sizes is Stable Diffusion's by default.

    Stable Diffusion 1.x takes all 12 layers of CLIP ViT-L/14 (width 768, 12 heads), 2.x
    all but the last of OpenCLIP ViT-H/14 (23 layers, width 1024, 16 heads, "gelu").

    Attributes:
      width: channels of a state.
      mlp_width: channels of the hidden layers.
      num_heads: attention heads, which divide the width.
      num_layers: blocks of attention and hidden layer.
      vocab_size: number of tokens.
      max_length: positions of a text, at most.
      activation: of the hidden layers: "gelu", or "quick_gelu", x sigmoid(1.702 x).
      dtype: of dense layers and attention, "float32" or "bfloat16". States are float32.

    Raises:
      UserError: naming the key whose value cannot be built.
    """

    width: int
    mlp_width: int
    num_heads: int
    num_layers: int
    vocab_size: int = 49408
    max_length: int = 77
    activation: str = "quick_gelu"
    dtype: str = "float32"

    def __post_init__(self):
        """Refuses what cannot be built."""
        positive = "width mlp_width num_heads num_layers vocab_size max_length"
        for name in positive.split():
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.width % self.num_heads:
            raise UserError(
                f"num_heads is {self.num_heads}; it must divide the width {self.width}"
            )
        for name, values in (("activation", ACTIVATIONS), ("dtype", DTYPES)):
            if getattr(self, name) not in values:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}; use {' or '.join(values)}"
                )
