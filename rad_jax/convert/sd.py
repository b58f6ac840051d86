"""The U-Nets of Stable Diffusion 1.x and 2.x in both layouts, to ours and back.

Diffusers' `UNet2DConditionModel` and CompVis' own name the residual blocks in two ways,
and what is in a transformer in one.
"""

import dataclasses
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rad_jax.convert import adm, diffusers
from rad_jax.convert.infer import multiplier
from rad_jax.errors import UserError
from rad_jax.files.from_dict import build
from rad_jax.models.sd_config import SDConfig
from rad_jax.weight_files import name_table
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.name_table import Entry, Path

PREFIX = "model.diffusion_model."
"""Of the U-Net's keys in a CompVis file, which holds other networks, too."""

LINEAR = "linear_projections"
"""What a record says of `is_linear`, which goes back to a file as it came."""

QKV = name_table.joined(name_table.LINEAR, 3)
"""Queries, keys and values to one layer."""

FIXED = diffusers.FIXED | {
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "transformer_layers_per_block": 1,
    "resnet_time_scale_shift": "default",
    "addition_embed_type": None,
    "encoder_hid_dim": None,
    "num_attention_heads": None,
    "num_class_embeds": None,
    "time_cond_proj_dim": None,
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
}
"""Settings that Stable Diffusion has no choice of."""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What is read of a `config.json`; named as there."""

    sample_size: int
    in_channels: int
    out_channels: int
    block_out_channels: Sequence[int]
    down_block_types: Sequence[str]
    up_block_types: Sequence[str]
    cross_attention_dim: int
    attention_head_dim: Sequence[int]
    layers_per_block: int = 2
    dropout: float = 0.0


def config_from_diffusers(config: Mapping[str, Any]) -> SDConfig:
    """Architecture of the `config.json` of a `UNet2DConditionModel`.

    Its `attention_head_dim` is the number of heads, of all resolutions or of each.

    Raises:
      UserError: naming the setting that is missing, of a wrong type, or one that
        Stable Diffusion's network cannot have.
    """
    for name, value in FIXED.items():
        if config.get(name, value) not in (value, None):
            found = reprlib.repr(config[name])
            raise UserError(f"{name} is {found}; only {value!r} is supported")
    if isinstance(heads := config.get("attention_head_dim"), int):
        found = config.get("block_out_channels")
        levels = len(found) if isinstance(found, (list, tuple)) else 1
        config = {**config, "attention_head_dim": [heads] * levels}
    names = [field.name for field in dataclasses.fields(_Settings)]
    settings = build(_Settings, {x: config[x] for x in names if x in config}, "")
    widths, down = settings.block_out_channels, settings.down_block_types
    up = list(reversed(settings.up_block_types))
    heads = settings.attention_head_dim
    levels = range(len(widths))
    if (
        not len(down) == len(up) == len(heads) == len(widths)
        or not 1 <= len(widths) <= diffusers.MAX_LEVELS
    ):
        raise UserError(
            "down_block_types, up_block_types, block_out_channels and "
            "attention_head_dim must be lists of one length, at most "
            f"{diffusers.MAX_LEVELS}"
        )
    if min(widths) < 1 or min(heads) < 1:
        raise UserError("block_out_channels and attention_head_dim must be positive")
    attention = [_attends(name, "down") for name in down]
    if attention != [_attends(name, "up") for name in up]:
        raise UserError("up_block_types must have attention where down_block_types has")
    num_heads, num_head_channels = _heads(widths, heads)
    return SDConfig(
        image_size=settings.sample_size,
        model_channels=widths[0],
        channel_mult=tuple(multiplier(width, widths[0]) for width in widths),
        num_res_blocks=settings.layers_per_block,
        attention_resolutions=tuple(
            settings.sample_size >> level for level in levels if attention[level]
        ),
        in_channels=settings.in_channels,
        out_channels=settings.out_channels,
        context_channels=settings.cross_attention_dim,
        num_heads=num_heads,
        num_head_channels=num_head_channels,
        dropout=settings.dropout,
    )


def _attends(block_type: str, direction: str) -> bool:
    """Whether a block of diffusers has attention."""
    kinds = {f"CrossAttn{direction.capitalize()}Block2D": True}
    kinds[f"{direction.capitalize()}Block2D"] = False
    if block_type not in kinds:
        raise UserError(f"the block type {shown(block_type)} is not supported")
    return kinds[block_type]


def _heads(widths: Sequence[int], heads: Sequence[int]) -> tuple[int, int]:
    """One number of heads, or one of channels of a head, as `SDConfig` has both."""
    if len(set(heads)) == 1:
        return heads[0], -1
    sizes = {width / number for width, number in zip(widths, heads, strict=True)}
    (size, *others) = sizes
    if others or size != int(size):
        raise UserError(
            f"attention_head_dim is {reprlib.repr(list(heads))}; only one number of "
            "heads, or heads of one width, are supported"
        )
    return SDConfig.num_heads, int(size)


def is_linear(state: Mapping[str, np.ndarray]) -> bool:
    """Whether the projections about a file's transformers are linear, as in 2.x.

    Those of 1.x are 1x1 convolutions, which is the same but for the shape.
    """
    arrays = (x for key, x in state.items() if key.endswith(".proj_in.weight"))
    first = next(arrays, None)
    return first is not None and first.ndim == 2


def diffusers_entries(config: SDConfig, *, linear: bool) -> list[Entry]:
    """The table of diffusers' keys; `linear` as of `is_linear`."""
    return diffusers.network_entries(
        config, lambda key, path, heads: _transformer(key, path, linear)
    )


def compvis_entries(
    config: SDConfig, *, linear: bool, prefix: str = PREFIX
) -> list[Entry]:
    """The table of the keys of a CompVis file that begin with the prefix."""
    found = adm.network_entries(
        config, lambda key, path: _transformer(key, path, linear)
    )
    return [
        dataclasses.replace(entry, keys=tuple(prefix + key for key in entry.keys))
        for entry in found
    ]


def _transformer(key: str, path: Path, linear: bool) -> list[Entry]:
    """A transformer of one block."""
    project = name_table.LINEAR if linear else name_table.POINTWISE_2D
    block = f"{key}.transformer_blocks.0"
    attn, cross, mlp = ((*path, name) for name in ("attn", "cross", "mlp"))
    found = [
        *name_table.norm(f"{key}.norm", (*path, "norm")),
        *name_table.layer(f"{key}.proj_in", (*path, "enter"), project),
        *name_table.norm(f"{block}.norm1", (*attn, "norm")),
        Entry(
            tuple(f"{block}.attn1.to_{part}.weight" for part in "qkv"),
            (*attn, "qkv", "kernel"),
            QKV,
        ),
        *_linear(f"{block}.attn1.to_out.0", (*attn, "proj")),
        *name_table.norm(f"{block}.norm2", (*cross, "norm")),
        *_linear(f"{block}.attn2.to_out.0", (*cross, "proj")),
        *name_table.norm(f"{block}.norm3", (*mlp, "norm")),
        *_linear(f"{block}.ff.net.0.proj", (*mlp, "expand")),
        *_linear(f"{block}.ff.net.2", (*mlp, "contract")),
        *name_table.layer(f"{key}.proj_out", (*path, "leave"), project),
    ]
    for part in "qkv":
        found += _linear(f"{block}.attn2.to_{part}", (*cross, part), bias=False)
    return found


def _linear(key: str, path: Path, *, bias: bool = True) -> list[Entry]:
    return name_table.layer(key, path, name_table.LINEAR, bias=bias)
