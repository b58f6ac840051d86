"""Autoencoders of latent diffusion in files of CompVis and diffusers, and back.

CompVis's are the `first_stage_model.` of a .ckpt of LDM or Stable Diffusion, or a file
of their own; diffusers' are its `AutoencoderKL` and `VQModel`. Both call the layers
nearest to the latents alike, and number the resolutions of the decoder the other way
round.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rad_jax.convert.infer import DIFFUSERS, Shapes, size_of
from rad_jax.errors import UserError
from rad_jax.models.autoencoder import abstract_params
from rad_jax.models.autoencoder_config import (
    GROUPS,
    AutoencoderConfig,
    decoder_stages,
    encoder_stages,
)
from rad_jax.weight_files import name_table
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.name_table import Entry, Layout, Path

COMPVIS = "compvis"
"""Keys of CompVis's programs."""

OLD_DIFFUSERS = "old diffusers"
"""Keys of diffusers before 0.18, which called the layers of attention otherwise."""

FIRST = "encoder.conv_in.weight"
CODEBOOK = "quantize.embedding.weight"
MARKERS = ((FIRST, "decoder.conv_in.weight", "post_quant_conv.weight"),)
"""Keys that every such autoencoder has; in a .ckpt behind `first_stage_model.`."""

LOSS = "loss."
"""Start of the keys of networks that only its training looks at."""

SCALING_FACTOR = 0.18215
"""Of Stable Diffusion 1 and 2, and diffusers' default."""

FIXED = {
    "act_fn": "silu",
    "norm_num_groups": GROUPS,
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "norm_type": "group",
    "lookup_from_codebook": False,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}
"""Settings of diffusers that no such autoencoder has otherwise."""

MAX_COUNT = 64
"""Of resolutions, and of blocks of one: to build a larger network would take hours."""


class _Names(NamedTuple):
    """What a layout calls its parts.

    Attributes:
      down: resolutions of the encoder.
      up: those of the decoder.
      reversed: those of the decoder are numbered from the coarsest on.
      block: residual blocks of a resolution.
      resample: what changes it, by direction.
      shortcut: of a block.
      middle: its block, attention and block.
      norm_out: the last normalisation.
      attention: its normalisation, queries, keys, values, and projection.
      pointwise: how the weights of the last four are stored.
    """

    down: str
    up: str
    reversed: bool
    block: str
    resample: Mapping[str, str]
    shortcut: str
    middle: tuple[str, str, str]
    norm_out: str
    attention: tuple[str, str, str, str, str]
    pointwise: Layout


_NAMES = {
    COMPVIS: _Names(
        down="down",
        up="up",
        reversed=False,
        block="block",
        resample={"down": "downsample.conv", "up": "upsample.conv"},
        shortcut="nin_shortcut",
        middle=("mid.block_1", "mid.attn_1", "mid.block_2"),
        norm_out="norm_out",
        attention=("norm", "q", "k", "v", "proj_out"),
        pointwise=name_table.POINTWISE_2D,
    ),
    DIFFUSERS: _Names(
        down="down_blocks",
        up="up_blocks",
        reversed=True,
        block="resnets",
        resample={"down": "downsamplers.0.conv", "up": "upsamplers.0.conv"},
        shortcut="conv_shortcut",
        middle=(
            "mid_block.resnets.0",
            "mid_block.attentions.0",
            "mid_block.resnets.1",
        ),
        norm_out="conv_norm_out",
        attention=("group_norm", "to_q", "to_k", "to_v", "to_out.0"),
        pointwise=name_table.LINEAR,
    ),
}
_NAMES[OLD_DIFFUSERS] = _NAMES[DIFFUSERS]._replace(
    attention=("group_norm", "query", "key", "value", "proj_attn")
)

LAYOUTS = tuple(_NAMES)


def layout_of(keys: Iterable[str]) -> str | None:
    """The layout of a file with these keys, one of `LAYOUTS`; None of another file."""
    keys = set(keys)
    if not keys.issuperset(MARKERS[0]):
        return None
    for layout, names in _NAMES.items():
        if f"encoder.{names.middle[1]}.{names.attention[1]}.weight" in keys:
            return layout
    return None


def infer(shapes: Shapes, **others: Any) -> AutoencoderConfig:
    """The architecture that shapes tell: all but what is given besides.

    Whether every other array fits is seen when they are converted.

    Args:
      shapes: by key.
      **others: attributes of `AutoencoderConfig` that they do not tell, such as
        ``scaling_factor``.

    Raises:
      UserError: these are no arrays of such an autoencoder.
    """
    layout = layout_of(shapes)
    if layout is None:
        raise UserError(
            "is of no autoencoder that can be converted: it has neither the keys of "
            "CompVis's nor of diffusers' AutoencoderKL and VQModel"
        )
    names = _NAMES[layout]

    def count(start: str, end: str) -> int:
        keys = (f"{start}.{i}.{end}" for i in range(MAX_COUNT))
        return next((i for i, key in enumerate(keys) if key not in shapes), MAX_COUNT)

    down, last = f"encoder.{names.down}", "conv2.weight"
    levels = count(down, f"{names.block}.0.{last}")
    firsts = [f"{down}.{i}.{names.block}.0.{last}" for i in range(levels)]
    codes = size_of(shapes, CODEBOOK, 0) if CODEBOOK in shapes else 0
    return AutoencoderConfig(
        kind="vq" if codes else "kl",
        widths=[size_of(shapes, key, 0) for key in firsts],
        num_res_blocks=count(f"{down}.0.{names.block}", last),
        latent_channels=size_of(shapes, "post_quant_conv.weight", 0),
        num_codes=codes,
        image_channels=size_of(shapes, FIRST, 1),
        **others,
    )


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What diffusers' `config.json` of an autoencoder says beside the shapes.

    Returns:
      Attributes for `infer`. Latents of a VQModel are not scaled: its own setting is
      of no published one.

    Raises:
      UserError: naming a setting that no such autoencoder has.
    """
    for name, value in FIXED.items():
        found = config.get(name, value)
        if found not in (value, None):
            text = shown(str(found))
            raise UserError(f"{name} is {text}; only {value} is supported")
    size = config.get("sample_size", AutoencoderConfig.image_size)
    factor = config.get("scaling_factor", SCALING_FACTOR)
    if type(size) is not int or type(factor) not in (int, float):
        raise UserError("sample_size and scaling_factor must be numbers")
    if "num_vq_embeddings" in config:
        factor = 1.0
    return {"image_size": size, "scaling_factor": factor}


def to_params(
    config: AutoencoderConfig, state: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """`Autoencoder` parameters, a pure dict of float32 arrays, of any layout.

    Keys of `LOSS` are passed over.

    Raises:
      UserError: it is of no autoencoder; or listing every key that does not fit.
    """
    layout = layout_of(state)
    if layout is None:
        raise UserError("is of no autoencoder that can be converted")
    kept = {key: state[key] for key in state if not key.startswith(LOSS)}
    return name_table.read(entries(config, layout), abstract_params(config), kept)


def from_params(
    config: AutoencoderConfig, params: Mapping[str, Any], layout: str
) -> name_table.Written:
    """The state dict of `Autoencoder` parameters in one of `LAYOUTS`."""
    return name_table.write(entries(config, layout), abstract_params(config), params)


def entries(config: AutoencoderConfig, layout: str) -> list[Entry]:
    """The table for this architecture, of one of `LAYOUTS`."""
    names = _NAMES[layout]
    found = [
        *_half("encoder", encoder_stages(config), names, config),
        *_half("decoder", decoder_stages(config), names, config),
    ]
    for name in ("quant_conv", "post_quant_conv"):
        found += name_table.layer(name, (name,), name_table.POINTWISE_2D)
    if config.kind == "vq":
        found.append(Entry((CODEBOOK,), ("codebook",), name_table.SAME))
    return found


def _half(
    half: str, specs: Sequence[Any], names: _Names, config: AutoencoderConfig
) -> list[Entry]:
    """The encoder or the decoder."""
    found = name_table.layer(f"{half}.conv_in", (half, "conv_in"), name_table.CONV)
    block, last = 0, len(config.widths) - 1
    for i, spec in enumerate(specs):
        if i and spec.level != specs[i - 1].level:
            block = 0
        if half == "encoder":
            key = f"encoder.{names.down}.{spec.level}"
        else:
            number = last - spec.level if names.reversed else spec.level
            key = f"decoder.{names.up}.{number}"
        path = (half, "stages", i)
        found += _block(
            f"{key}.{names.block}.{block}",
            (*path, "res"),
            names,
            shortcut=spec.inputs != spec.outputs,
        )
        block += 1
        if spec.resampling:
            # Ours upsamples within a module of its own.
            inner = ("resample",) if half == "encoder" else ("resample", "conv")
            name = f"{key}.{names.resample[spec.resampling]}"
            found += name_table.layer(name, (*path, *inner), name_table.CONV)
    for name, part in zip(("res1", "attn", "res2"), names.middle, strict=True):
        make = _attention if name == "attn" else _block
        found += make(f"{half}.{part}", (half, "middle", name), names)
    found += name_table.norm(f"{half}.{names.norm_out}", (half, "norm_out"))
    found += name_table.layer(f"{half}.conv_out", (half, "conv_out"), name_table.CONV)
    return found


def _block(
    key: str, path: Path, names: _Names, *, shortcut: bool = False
) -> list[Entry]:
    same = {name: name for name in ("norm1", "conv1", "norm2", "conv2")}
    theirs = {**same, "shortcut": names.shortcut}
    return name_table.res_block(key, path, theirs, shortcut=shortcut)


def _attention(key: str, path: Path, names: _Names) -> list[Entry]:
    norm, *parts, projection = (f"{key}.{name}" for name in names.attention)
    found = name_table.norm(norm, (*path, "norm"))
    for ours, theirs, layout in (
        ("kernel", "weight", names.pointwise),
        ("bias", "bias", name_table.SAME),
    ):
        keys = tuple(f"{part}.{theirs}" for part in parts)
        joined = name_table.joined(layout, len(parts))
        found.append(Entry(keys, (*path, "qkv", ours), joined))
    found += name_table.layer(projection, (*path, "proj"), names.pointwise)
    return found
