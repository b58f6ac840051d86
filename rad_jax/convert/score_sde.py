"""Checkpoints of score-based SDE (score_sde) to `NCSNpp` parameters and back.

Its two programs number the same modules: the PyTorch one all of them in order, the
Flax one each class apart. Both are tables made of one list of the modules.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rad_jax.errors import UserError
from rad_jax.models.ncsnpp_config import (
    NCSNppConfig,
    NCSNppStage,
    decoder_stages,
    encoder_stages,
)
from rad_jax.weight_files import name_table
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.name_table import Entry, Layout, Path

DDPM_GROUPS = 32
"""Of the normalisations of score_sde's own DDPM."""

FIXED = {
    "nonlinearity": "swish",
    "normalization": "GroupNorm",
    "conditional": True,
    "resamp_with_conv": True,
    "fir_kernel": [1, 3, 3, 1],
    "attention_type": "ddpm",
    "conv_size": 3,
}
"""Settings that no published network has otherwise."""


def config_of(model: Mapping[str, Any], data: Mapping[str, Any]) -> NCSNppConfig:
    """Architecture of score_sde's configuration, of its blocks `model` and `data`.

    Raises:
      UserError: naming the setting that is missing or not supported.
    """
    for name, value in FIXED.items():
        found = model.get(name, value)
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise UserError(f"{name} is {shown(str(found))}; only {value} is supported")
    kind = _setting(model, "name")
    if kind not in ("ncsnpp", "ddpm"):
        raise UserError(f"name is {shown(str(kind))}; use a network ncsnpp or ddpm")
    common = {
        "image_size": _setting(data, "image_size"),
        "in_channels": _setting(data, "num_channels"),
        "out_channels": _setting(data, "num_channels"),
        "model_channels": _setting(model, "nf"),
        "channel_mult": tuple(_setting(model, "ch_mult")),
        "num_res_blocks": _setting(model, "num_res_blocks"),
        "attention_resolutions": tuple(_setting(model, "attn_resolutions")),
        "dropout": model.get("dropout", 0.0),
    }
    if (
        kind == "ddpm"
    ):  # it reads none of the others, though its configurations have them
        return NCSNppConfig(
            **common,
            embedding="positional",
            block="ddpm",
            fir=False,
            skip_rescale=False,
            groups=DDPM_GROUPS,
        )
    return NCSNppConfig(
        **common,
        embedding=_setting(model, "embedding_type").lower(),
        block=_setting(model, "resblock_type").lower(),
        fir=_setting(model, "fir"),
        skip_rescale=_setting(model, "skip_rescale"),
        progressive=_setting(model, "progressive").lower(),
        progressive_input=_setting(model, "progressive_input").lower(),
        progressive_combine=_setting(model, "progressive_combine").lower(),
    )


def _setting(block: Mapping[str, Any], name: str) -> Any:
    if name not in block:
        raise UserError(f"the configuration of score_sde lacks {name}")
    return block[name]


def entries(config: NCSNppConfig) -> list[Entry]:
    """The table of the PyTorch program's keys, without the prefix "module.".

    Without the buffer `sigmas`, too, which is of the process.
    """
    found = []
    for number, module in enumerate(_modules(config)):
        for layer in module.layers:
            names = [_joined(f"all_modules.{number}", name) for name in layer.names]
            for ours, theirs, _ in layer.kind.arrays:
                keys = tuple(f"{name}.{theirs}" for name in names)
                layout = name_table.SAME if theirs == "bias" else layer.kind.layout
                found.append(Entry(keys, _path(layer, ours), layout))
    return found


def flax_names(config: NCSNppConfig) -> dict[str, str]:
    """The Flax program's name of the array of each key of `entries`.

    In the order of the PyTorch program's state dict, which is that of its averages.
    """
    found, counts = {}, Counter()
    for number, module in enumerate(_modules(config)):
        flax = f"{module.name}_{counts[module.name]}"
        counts[module.name] += 1
        for layer in module.layers:
            for name in layer.names:
                key = _joined(f"all_modules.{number}", name)
                place = "/".join([flax, name] if name else [flax])
                for _, theirs, flaxs in layer.kind.arrays:
                    found[f"{key}.{theirs}"] = f"{place}/{flaxs}"
    return found


class _Kind(NamedTuple):
    """A kind of layers: its arrays by ours, PyTorch's, Flax's name; their layout."""

    arrays: tuple[tuple[str, str, str], ...]
    layout: Layout


class _Layer(NamedTuple):
    """A layer of ours, and the names within a module of those that it is made of."""

    names: tuple[str, ...]
    path: Path
    kind: _Kind


class _Module(NamedTuple):
    """A numbered module, by the name of its class in the Flax program."""

    name: str
    layers: list[_Layer]


JOINED = name_table.joined(name_table.SAME, 3)
"""Queries, keys and values to one layer."""

_WEIGHTS = (("kernel", "weight", "kernel"), ("bias", "bias", "bias"))
_NIN_WEIGHTS = (("kernel", "W", "W"), ("bias", "b", "b"))

_NORM = _Kind((("scale", "weight", "scale"), ("bias", "bias", "bias")), name_table.SAME)
_CONV = _Kind(_WEIGHTS, name_table.CONV)
_LINEAR = _Kind(_WEIGHTS, name_table.LINEAR)
_POINTWISE = _Kind(_WEIGHTS, name_table.POINTWISE_2D)
_NIN = _Kind(_NIN_WEIGHTS, name_table.SAME)
_QKV = _Kind(_NIN_WEIGHTS, JOINED)
_FREQUENCIES = _Kind((("", "W", "W"),), name_table.SAME)


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if name else key


def _path(layer: _Layer, array: str) -> Path:
    return (*layer.path, array) if array else layer.path


def _modules(config: NCSNppConfig) -> Iterator[_Module]:
    """All modules, in the order in which both programs construct them."""
    embed = ("time_embed",)
    if config.embedding == "fourier":
        path = (*embed, "frequencies")
        yield _single("GaussianFourierProjection", path, _FREQUENCIES)
    yield _single("Dense", (*embed, "linear1"), _LINEAR)
    yield _single("Dense", (*embed, "linear2"), _LINEAR)
    yield _single("Conv", ("conv_in",), _CONV)
    for i, spec in enumerate(encoder_stages(config)):
        path = ("encoder", i)
        if spec.residual:
            yield _block((*path, "res"), spec.inputs != spec.outputs, config)
        if spec.heads:
            yield _attention((*path, "attn"), config)
        if spec.resampling:
            yield _resample((*path, "resample"), spec, config)
        if spec.pyramid:
            yield _input_pyramid((*path, "pyramid", "layer"), config)
    yield _block(("middle", "res1"), False, config)
    yield _attention(("middle", "attn"), config)
    yield _block(("middle", "res2"), False, config)
    for i, spec in enumerate(decoder_stages(config)):
        path = ("decoder", i)
        yield _block((*path, "res"), spec.inputs != spec.outputs, config)
        if spec.heads:
            yield _attention((*path, "attn"), config)
        if spec.pyramid:
            yield from _output_pyramid((*path, "pyramid"), spec, config)
        if spec.resampling:
            yield _resample((*path, "resample"), spec, config)
    if config.progressive != "output_skip":
        yield _single("GroupNorm", ("norm_out",), _NORM)
        yield _single("Conv", ("conv_out",), _CONV)


def _single(name: str, path: Path, kind: _Kind) -> _Module:
    """A module that is one layer."""
    return _Module(name, [_Layer(("",), path, kind)])


def _is_ddpm(config: NCSNppConfig) -> bool:
    """Whether it is score_sde's own DDPM, whose classes are others."""
    return config.block == "ddpm" and config.groups == DDPM_GROUPS


def _block(path: Path, shortcut: bool, config: NCSNppConfig) -> _Module:
    layers = [
        _Layer(("GroupNorm_0",), (*path, "norm1"), _NORM),
        _Layer(("Conv_0",), (*path, "conv1"), _CONV),
        _Layer(("Dense_0",), (*path, "time_embed"), _LINEAR),
        _Layer(("GroupNorm_1",), (*path, "norm2"), _NORM),
        _Layer(("Conv_1",), (*path, "conv2"), _CONV),
    ]
    biggan = config.block == "biggan"
    if shortcut:
        name, kind = ("Conv_2", _POINTWISE) if biggan else ("NIN_0", _NIN)
        layers.append(_Layer((name,), (*path, "shortcut"), kind))
    if biggan:
        return _Module("ResnetBlockBigGANpp", layers)
    return _Module(
        "ResnetBlockDDPM" if _is_ddpm(config) else "ResnetBlockDDPMpp", layers
    )


def _attention(path: Path, config: NCSNppConfig) -> _Module:
    layers = [
        _Layer(("GroupNorm_0",), (*path, "norm"), _NORM),
        _Layer(("NIN_0", "NIN_1", "NIN_2"), (*path, "qkv"), _QKV),
        _Layer(("NIN_3",), (*path, "proj"), _NIN),
    ]
    return _Module("AttnBlock" if _is_ddpm(config) else "AttnBlockpp", layers)


def _resample(path: Path, spec: NCSNppStage, config: NCSNppConfig) -> _Module:
    if config.block == "biggan":
        return _block(path, True, config)
    name = "Downsample" if spec.resampling == "down" else "Upsample"
    return _resampling_conv(name, (*path, "conv"), config)


def _resampling_conv(name: str, path: Path, config: NCSNppConfig) -> _Module:
    conv = "Conv2d_0" if config.fir else "Conv_0"
    return _Module(name, [_Layer((conv,), path, _CONV)])


def _input_pyramid(path: Path, config: NCSNppConfig) -> _Module:
    if config.progressive_input == "residual":
        return _resampling_conv("Downsample", path, config)
    return _Module("Combine", [_Layer(("Conv_0",), path, _POINTWISE)])


def _output_pyramid(
    path: Path, spec: NCSNppStage, config: NCSNppConfig
) -> Iterator[_Module]:
    layer = (*path, "layer")
    if config.progressive == "residual" and spec.level < config.num_resolutions - 1:
        yield _resampling_conv("Upsample", layer, config)
        return
    yield _single("GroupNorm", (*path, "norm"), _NORM)
    yield _single("Conv", layer, _CONV)
