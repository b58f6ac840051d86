"""Checkpoints of OpenAI's ADM (guided-diffusion) to `UNet` parameters and back."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rad_jax.errors import UserError
from rad_jax.models.architecture import StageSpec
from rad_jax.models.config import (
    UNetConfig,
    decoder_stages,
    encoder_stages,
)
from rad_jax.models.network import abstract_params
from rad_jax.models.sd_config import SDConfig
from rad_jax.weight_files import name_table
from rad_jax.weight_files.name_table import Entry, Path

RES_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_embed": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "shortcut": "skip_connection",
}

Named = Callable[[str, Path], list[Entry]]
"""The table of a block, by its key in the file and its place in ours."""

CHANNEL_MULT = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}
"""ADM's channel multipliers by image size, where the flag is empty."""

NUM_CLASSES = 1000
"""Labels of every class-conditional ADM (ImageNet)."""

FLAGS = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "channel_mult": "",
    "attention_resolutions": "16,8",
    "num_heads": 4,
    "num_head_channels": -1,
    "num_heads_upsample": -1,
    "use_scale_shift_norm": True,
    "use_new_attention_order": False,
    "resblock_updown": False,
    "dropout": 0.0,
    "class_cond": False,
    "learn_sigma": False,
}
"""guided-diffusion's flags of the network, with its defaults."""

OTHER_FLAGS = (
    # Of the run, not of the weights.
    "use_checkpoint",
    "use_fp16",
    # Of the diffusion process.
    "diffusion_steps",
    "noise_schedule",
    "timestep_respacing",
    "use_kl",
    "predict_xstart",
    "sigma_small",
    "rescale_timesteps",
    "rescale_learned_sigmas",
)


def config_from_adm_flags(flags: Mapping[str, Any]) -> UNetConfig:
    """Architecture that guided-diffusion builds from its flags.

    Args:
      flags: values as they are, or as text from a command line; lists are
        "32,16,8". Flags that do not shape the network are passed over. A flag that is
        not given has guided-diffusion's default.

    Raises:
      UserError: for an unknown or unusable flag.
    """
    for name in flags:
        if name not in FLAGS and name not in OTHER_FLAGS:
            raise UserError(f"{name} is no flag of an ADM that can be converted")
    values = {
        name: _value(name, flags.get(name, default), type(default))
        for name, default in FLAGS.items()
    }
    size = values["image_size"]
    mult = _numbers("channel_mult", values.pop("channel_mult"))
    if not mult and size not in CHANNEL_MULT:
        raise UserError(f"channel_mult: give one for image_size {size}")
    mult = mult or CHANNEL_MULT[size]
    sides = _numbers("attention_resolutions", values.pop("attention_resolutions"))
    # ADM's rule; it passes over resolutions that the network does not have.
    factors = {size // side for side in sides}
    return UNetConfig(
        model_channels=values.pop("num_channels"),
        channel_mult=mult,
        attention_resolutions=[
            size >> level for level in range(len(mult)) if 2**level in factors
        ],
        num_classes=NUM_CLASSES if values.pop("class_cond") else None,
        **values,
    )


def _value(name: str, value: Any, kind: type) -> Any:
    """A flag's value from text, if it is text and should not be."""
    if not isinstance(value, str) or kind is str:
        return value
    if kind is bool and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    try:
        return {int: int, float: float}[kind](value)
    except (KeyError, ValueError):
        raise UserError(f"{name} is {value!r}, no {kind.__name__}") from None


def _numbers(name: str, value: Any) -> tuple[float | int, ...]:
    """Numbers of a list, or of a text like "1,2,4"."""
    if not isinstance(value, str):
        return tuple(value)
    try:
        numbers = [float(number) for number in value.split(",") if number]
    except ValueError:
        raise UserError(f'{name} is {value!r}; write numbers like "1,2,4"') from None
    return tuple(int(number) if number == int(number) else number for number in numbers)


def adm_to_params(
    config: UNetConfig, state_dict: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """`UNet` parameters, a pure dict of float32 arrays, from an ADM state dict.

    Raises:
      UserError: listing every missing, left-over and misshapen key.
    """
    return name_table.read(entries(config), abstract_params(config), state_dict)


def params_to_adm(config: UNetConfig, params: Mapping[str, Any]) -> name_table.Written:
    """The ADM state dict of `UNet` parameters, in ADM's order of keys."""
    return name_table.write(entries(config), abstract_params(config), params)


def entries(config: UNetConfig) -> list[Entry]:
    """The table for this architecture."""
    return network_entries(config, _attention)


def network_entries(config: UNetConfig | SDConfig, attention: Named) -> list[Entry]:
    """The table of a network built like ADM's, with the table of its attention."""
    found = [
        *name_table.layer("time_embed.0", ("time_embed", "linear1"), name_table.LINEAR),
        *name_table.layer("time_embed.2", ("time_embed", "linear2"), name_table.LINEAR),
    ]
    if config.num_classes is not None:
        path = ("label_embed", "embedding")
        found.append(Entry(("label_emb.weight",), path, name_table.SAME))
    found += name_table.layer("input_blocks.0.0", ("conv_in",), name_table.CONV)
    for i, spec in enumerate(encoder_stages(config)):
        key = f"input_blocks.{i + 1}"
        found += _stage(key, ("encoder", i), spec, config, attention)
    for i, name in enumerate(("res1", "attn", "res2")):
        block = attention if name == "attn" else _res_block
        found += block(f"middle_block.{i}", ("middle", name))
    for i, spec in enumerate(decoder_stages(config)):
        key = f"output_blocks.{i}"
        found += _stage(key, ("decoder", i), spec, config, attention)
    found += name_table.norm("out.0", ("norm_out",))
    found += name_table.layer("out.2", ("conv_out",), name_table.CONV)
    return found


def _stage(
    key: str,
    path: Path,
    spec: StageSpec,
    config: UNetConfig | SDConfig,
    attention: Named,
) -> list[Entry]:
    """A stage; ADM numbers the blocks that it has."""
    blocks = []
    if spec.residual:
        shortcut = spec.inputs != spec.outputs
        blocks.append(lambda key: _res_block(key, (*path, "res"), shortcut=shortcut))
    if spec.heads:
        blocks.append(lambda key: attention(key, (*path, "attn")))
    if spec.resampling and config.resblock_updown:
        blocks.append(lambda key: _res_block(key, (*path, "resample")))
    elif spec.resampling:
        name = "op" if spec.resampling == "down" else "conv"
        conv = (*path, "resample", "conv")
        blocks.append(
            lambda key: name_table.layer(f"{key}.{name}", conv, name_table.CONV)
        )
    return [entry for i, block in enumerate(blocks) for entry in block(f"{key}.{i}")]


def _res_block(key: str, path: Path, *, shortcut: bool = False) -> list[Entry]:
    return name_table.res_block(key, path, RES_BLOCK, shortcut=shortcut)


def _attention(key: str, path: Path) -> list[Entry]:
    return [
        *name_table.norm(f"{key}.norm", (*path, "norm")),
        *name_table.layer(f"{key}.qkv", (*path, "qkv"), name_table.POINTWISE_1D),
        *name_table.layer(f"{key}.proj_out", (*path, "proj"), name_table.POINTWISE_1D),
    ]
