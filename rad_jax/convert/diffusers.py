"""ADM and RAD networks in the layout of diffusers' `UNet2DModel`, to ours and back.

Its attention has q, k and v apart, each ordered (heads, channels of a head). Both of
ADM's orders can be made of that; "new" (`use_new_attention_order`) is that order.
"""

import dataclasses
import functools
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rad_jax.convert.infer import multiplier
from rad_jax.errors import UserError
from rad_jax.files.from_dict import build
from rad_jax.models.architecture import StageSpec
from rad_jax.models.config import (
    GROUPS,
    UNetConfig,
    decoder_stages,
    encoder_stages,
)
from rad_jax.models.network import abstract_params
from rad_jax.models.sd_config import SDConfig
from rad_jax.weight_files import name_table
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.name_table import Entry, Layout, Path

RES_BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time_embed": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "shortcut": "conv_shortcut",
}
FIXED = {
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "norm_num_groups": GROUPS,
    "attn_norm_num_groups": GROUPS,
    "time_embedding_type": "positional",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "center_input_sample": False,
    "add_attention": True,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "class_embed_type": None,
}
"""Settings of diffusers that ADM's network has no choice of."""


MAX_LEVELS = 32

Named = Callable[[str, Path, int], list[Entry]]
"""The table of an attention, by its key in the file, its place in ours, its heads."""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What is read of a `config.json`; named as there."""

    sample_size: int
    in_channels: int
    out_channels: int
    layers_per_block: int
    block_out_channels: Sequence[int]
    down_block_types: Sequence[str]
    up_block_types: Sequence[str]
    attention_head_dim: int | None
    downsample_type: str = "conv"
    upsample_type: str = "conv"
    resnet_time_scale_shift: str = "default"
    num_class_embeds: int | None = None
    dropout: float = 0.0


def config_from_diffusers(config: Mapping[str, Any]) -> UNetConfig:
    """Architecture of a diffusers `config.json`; one of ADM's, or an error.

    Raises:
      UserError: naming the setting that is missing, of a wrong type, or one that ADM's
        network cannot have.
    """
    for name, value in FIXED.items():
        if config.get(name, value) not in (value, None):
            found = reprlib.repr(config[name])
            raise UserError(f"{name} is {found}; only {value!r} is supported")
    names = [field.name for field in dataclasses.fields(_Settings)]
    settings = build(_Settings, {x: config[x] for x in names if x in config}, "")
    down, up = settings.down_block_types, settings.up_block_types
    widths = settings.block_out_channels
    if not len(down) == len(up) == len(widths) or not 1 <= len(widths) <= MAX_LEVELS:
        raise UserError(
            "down_block_types, up_block_types and block_out_channels must be lists of "
            f"one length, at most {MAX_LEVELS}"
        )
    if min(widths) < 1:
        raise UserError(f"block_out_channels has {min(widths)}; it must be positive")
    levels = range(len(down))
    attention = [name.startswith("Attn") for name in down]
    if attention != [name.startswith("Attn") for name in reversed(up)]:
        raise UserError("up_block_types must have attention where down_block_types has")
    downs = [_updown(name, settings.downsample_type) for name in down]
    ups = [_updown(name, settings.upsample_type) for name in up]
    # The last resolution is not followed by another.
    kinds = {*downs[:-1], *ups[:-1]}
    if len(kinds) > 1:
        raise UserError(
            "down_block_types and up_block_types change resolution by both "
            "residual blocks and convolutions; only one of them is supported"
        )
    learn_sigma = settings.out_channels == 2 * settings.in_channels
    head = settings.attention_head_dim
    return UNetConfig(
        image_size=settings.sample_size,
        model_channels=widths[0],
        channel_mult=tuple(multiplier(width, widths[0]) for width in widths),
        num_res_blocks=settings.layers_per_block,
        attention_resolutions=tuple(
            settings.sample_size >> level for level in levels if attention[level]
        ),
        in_channels=settings.in_channels,
        out_channels=settings.out_channels // (2 if learn_sigma else 1),
        learn_sigma=learn_sigma,
        num_heads=1 if head is None else UNetConfig.num_heads,
        num_head_channels=-1 if head is None else head,
        use_new_attention_order=True,
        use_scale_shift_norm=settings.resnet_time_scale_shift == "scale_shift",
        resblock_updown="conv" not in kinds,
        num_classes=settings.num_class_embeds,
        dropout=settings.dropout,
    )


def _updown(block_type: str, attention_type: str) -> str:
    """How a block of diffusers changes the resolution: "resnet" or "conv"."""
    if block_type in ("AttnDownBlock2D", "AttnUpBlock2D"):
        return attention_type
    if block_type in ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"):
        return "resnet"
    if block_type in ("DownBlock2D", "UpBlock2D"):
        return "conv"
    raise UserError(f"the block type {shown(block_type)} is not supported")


def diffusers_to_params(
    config: UNetConfig, state_dict: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """`UNet` parameters, a pure dict of float32 arrays, from a diffusers state dict.

    The layers conditioned on the time may be linear, as in ADM, or 1x1 convolutions, as
    in RAD.

    Raises:
      UserError: listing every missing, left-over and misshapen key.
    """
    first = state_dict.get("time_embedding.linear_1.weight")
    found = entries(config, pointwise_time=first is not None and first.ndim == 4)
    return name_table.read(found, abstract_params(config), state_dict)


def params_to_diffusers(
    config: UNetConfig, params: Mapping[str, Any], *, pointwise_time: bool
) -> name_table.Written:
    """The diffusers state dict of `UNet` parameters."""
    found = entries(config, pointwise_time=pointwise_time)
    return name_table.write(found, abstract_params(config), params)


def entries(config: UNetConfig, *, pointwise_time: bool = False) -> list[Entry]:
    """The table for this architecture.

    With `pointwise_time` the layers conditioned on the time are 1x1 convolutions (RAD),
    otherwise linear (ADM).
    """
    attention = functools.partial(_attention, config=config)
    found = network_entries(config, attention)
    return [_pointwise(entry) for entry in found] if pointwise_time else found


def network_entries(config: UNetConfig | SDConfig, attention: Named) -> list[Entry]:
    """The table of a network built like ADM's, with the table of its attention."""
    found = [
        *name_table.layer("conv_in", ("conv_in",), name_table.CONV),
        *name_table.layer(
            "time_embedding.linear_1", ("time_embed", "linear1"), name_table.LINEAR
        ),
        *name_table.layer(
            "time_embedding.linear_2", ("time_embed", "linear2"), name_table.LINEAR
        ),
    ]
    if config.num_classes is not None:
        path = ("label_embed", "embedding")
        found.append(Entry(("class_embedding.weight",), path, name_table.SAME))
    block = 0
    for i, spec in enumerate(encoder_stages(config)):
        key = f"down_blocks.{spec.level}"
        found += _stage(key, block, ("encoder", i), spec, config, attention)
        block = 0 if spec.resampling else block + 1
    mid, width = "mid_block", config.widths[-1]
    heads = config.heads(width, up=False)
    found += _res_block(f"{mid}.resnets.0", ("middle", "res1"))
    found += attention(f"{mid}.attentions.0", ("middle", "attn"), heads)
    found += _res_block(f"{mid}.resnets.1", ("middle", "res2"))
    for i, spec in enumerate(decoder_stages(config)):
        key = f"up_blocks.{config.num_resolutions - 1 - spec.level}"
        block = i % (config.num_res_blocks + 1)
        found += _stage(key, block, ("decoder", i), spec, config, attention)
    found += name_table.norm("conv_norm_out", ("norm_out",))
    found += name_table.layer("conv_out", ("conv_out",), name_table.CONV)
    return found


def _pointwise(entry: Entry) -> Entry:
    """The entry, or that of a 1x1 convolution if its layer takes the time."""
    if "time_embed" in entry.path and entry.path[-1] == "kernel":
        return dataclasses.replace(entry, layout=name_table.POINTWISE_2D)
    return entry


def _stage(
    key: str,
    block: int,
    path: Path,
    spec: StageSpec,
    config: UNetConfig | SDConfig,
    attention: Named,
) -> list[Entry]:
    """A stage; diffusers counts the residual blocks of a resolution."""
    found = []
    if spec.residual:
        shortcut = spec.inputs != spec.outputs
        name = f"{key}.resnets.{block}"
        found += _res_block(name, (*path, "res"), shortcut=shortcut)
    if spec.heads:
        name = f"{key}.attentions.{block}"
        found += attention(name, (*path, "attn"), spec.heads)
    if spec.resampling:
        name = f"{key}.{spec.resampling}samplers.0"
        resample = (*path, "resample")
        if config.resblock_updown:
            found += _res_block(name, resample)
        else:
            found += name_table.layer(
                f"{name}.conv", (*resample, "conv"), name_table.CONV
            )
    return found


def _res_block(key: str, path: Path, *, shortcut: bool = False) -> list[Entry]:
    return name_table.res_block(key, path, RES_BLOCK, shortcut=shortcut)


def _attention(key: str, path: Path, heads: int, config: UNetConfig) -> list[Entry]:
    layout = _qkv_layout(heads, new_order=config.use_new_attention_order)
    names = [f"{key}.to_{part}" for part in "qkv"]
    return [
        *name_table.norm(f"{key}.group_norm", (*path, "norm")),
        Entry(tuple(f"{n}.weight" for n in names), (*path, "qkv", "kernel"), layout),
        Entry(tuple(f"{n}.bias" for n in names), (*path, "qkv", "bias"), layout),
        *name_table.layer(f"{key}.to_out.0", (*path, "proj"), name_table.LINEAR),
    ]


def _qkv_layout(heads: int, *, new_order: bool) -> Layout:
    """Weights (out, in) or biases (out,) of q, k and v, joined as `Attention` has them.

    The joined channels are (qkv, heads, channels) in the new order, (heads, qkv,
    channels) in the old one.
    """
    axis = -3 if new_order else -2

    def to_ours(*parts: np.ndarray) -> np.ndarray:
        split = [x.T.reshape(*x.T.shape[:-1], heads, -1) for x in parts]
        joined = np.stack(split, axis=axis)
        return joined.reshape(*joined.shape[:-3], -1)

    def to_theirs(joined: np.ndarray) -> tuple[np.ndarray, ...]:
        order = (3, heads) if new_order else (heads, 3)
        split = np.moveaxis(joined.reshape(*joined.shape[:-1], *order, -1), axis, 0)
        return tuple(x.reshape(*x.shape[:-2], -1).T for x in split)

    return Layout(to_ours, to_theirs)
