"""Whether configurations of diffusers are of the weights beside them.

They are read without trust: what they say is compared with the shapes of arrays before
a network is built of it, which might be one of a billion blocks.
"""

import dataclasses

from rad_jax.convert import clip, infer
from rad_jax.convert.diffusers_folder import CONFIG
from rad_jax.convert.infer import Shapes
from rad_jax.convert.presets import mismatch
from rad_jax.errors import UserError
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.models.config import UNetConfig
from rad_jax.models.sd_config import SDConfig

STATES = ".attn2.to_k.weight"
POSITIONS = "embeddings.position_embedding.weight"

SHARED = (
    *("model_channels", "channel_mult", "num_res_blocks"),
    *("in_channels", "out_channels"),
)
"""What shapes tell of a `UNet2DConditionModel` as of a `UNet2DModel`."""


def check_unet(config: UNetConfig | SDConfig, shapes: Shapes) -> None:
    """Refuses a U-Net's configuration that is not of its weights, before it is built.

    Raises:
      UserError: saying in what.
    """
    layout, facts = infer.infer(shapes)
    if layout != infer.DIFFUSERS:
        raise UserError(f"has keys of another layout; {CONFIG} is of diffusers")
    if isinstance(config, UNetConfig):
        expected = infer.facts_of(config)
    else:
        own = {name: getattr(config, name) for name in SHARED}
        expected = dataclasses.replace(facts, **own)
        widths = {x[1] for key, x in shapes.items() if key.endswith(STATES)}
        if widths - {config.context_channels}:
            raise UserError(
                f"does not match {CONFIG}: is told states of {max(widths)} channels, "
                f"{CONFIG}'s cross_attention_dim is {config.context_channels}"
            )
    if wrong := mismatch(facts, expected, CONFIG):
        raise UserError(f"does not match {CONFIG}: {wrong}")


def check_encoder(config: CLIPConfig, shapes: Shapes) -> None:
    """The same of the configuration of an encoder of texts.

    Raises:
      UserError: saying in what.
    """
    first = "encoder.layers.0.mlp.fc1.weight"
    layers = {key.split(".")[2] for key in shapes if key.startswith("encoder.layers.")}
    found = {
        "vocab_size": infer.size_of(shapes, clip.TOKENS, 0),
        "hidden_size": infer.size_of(shapes, clip.TOKENS, 1),
        "max_position_embeddings": infer.size_of(shapes, POSITIONS, 0),
        "intermediate_size": infer.size_of(shapes, first, 0),
        "num_hidden_layers": len(layers),
    }
    for name, size in found.items():
        told = getattr(config, clip.SETTINGS[name])
        if size != told:
            raise UserError(
                f"does not match {CONFIG}: {name} is {size}, {CONFIG}'s {told}"
            )
