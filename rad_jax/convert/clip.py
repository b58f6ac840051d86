"""CLIP's text encoders in the layouts that hold them, to `CLIPText` and back.

Transformers' has queries, keys and values apart; OpenCLIP's, of Stable Diffusion 2.x in
one file, stacks them, and has a last layer that is not used.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.from_dict import build
from rad_jax.models.clip import abstract_params
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.weight_files import name_table
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.name_table import Entry, Path

TOKENS = "embeddings.token_embedding.weight"
"""Key that transformers' layout has, behind any prefix."""

OPENCLIP_TOKENS = "token_embedding.weight"
"""The same of OpenCLIP's."""

MARKERS = (
    (TOKENS, "final_layer_norm.weight"),
    (OPENCLIP_TOKENS, "positional_embedding", "ln_final.weight"),
)
"""Keys that every such encoder has, in either layout."""

QKV = name_table.joined(name_table.LINEAR, 3)
"""Queries, keys and values to one layer."""

SETTINGS = {
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_length",
    "hidden_act": "activation",
}
"""Names of transformers, and ours."""

EPSILON = 1e-5


def config_from_transformers(config: Mapping[str, Any]) -> CLIPConfig:
    """Architecture of the `config.json` of a `CLIPTextModel`.

    Raises:
      UserError: naming the setting that is missing, of a wrong type or not supported.
    """
    epsilon = config.get("layer_norm_eps", EPSILON)
    if epsilon != EPSILON:
        found = shown(str(epsilon))
        raise UserError(f"layer_norm_eps is {found}; only {EPSILON} is supported")
    found = {ours: config[x] for x, ours in SETTINGS.items() if x in config}
    return build(CLIPConfig, found, "")


def clip_to_params(
    config: CLIPConfig, state: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """`CLIPText` parameters, of a state dict that may hold other networks, too.

    Of OpenCLIP's layers the first are taken, as many as the configuration has.

    Raises:
      UserError: it holds no text encoder, or one of another architecture: then with
        every missing, left-over and misshapen key.
    """
    prefix, openclip = _layout(state)
    table = openclip_entries if openclip else transformers_entries
    own = {
        key: array
        for key, array in state.items()
        if key.startswith(prefix)
        and not _is_unused(key.removeprefix(prefix), config.num_layers)
    }
    return name_table.read(table(config, prefix), abstract_params(config), own)


def entries(config: CLIPConfig, keys: Iterable[str]) -> list[Entry]:
    """The table of keys that have no prefix, in the layout that these have.

    Raises:
      UserError: they are of no such encoder.
    """
    prefix, openclip = _layout(dict.fromkeys(keys))
    return (openclip_entries if openclip else transformers_entries)(config, prefix)


def unused(config: CLIPConfig, keys: Iterable[str]) -> list[str]:
    """Those of keys without a prefix that the states do not depend on."""
    return [key for key in keys if _is_unused(key, config.num_layers)]


def _layout(state: Mapping[str, Any]) -> tuple[str, bool]:
    """The prefix of the keys, and whether they are OpenCLIP's."""
    for end, openclip in ((TOKENS, False), (OPENCLIP_TOKENS, True)):
        for key in state:
            prefix = key.removesuffix(end)
            if prefix != key and prefix[-1:] in ("", "."):
                return prefix, openclip
    raise UserError("the file holds no text encoder of CLIP")


def _is_unused(key: str, num_layers: int) -> bool:
    """Whether a key, without its prefix, is of what the states do not depend on."""
    if match := re.match(r"transformer\.resblocks\.(\d+)\.", key):
        return int(match[1]) == num_layers
    return key in (
        # Numbers 0, 1, ... of transformers before version 4.31.
        "embeddings.position_ids",
        # OpenCLIP's for comparing a text with an image.
        *("text_projection", "logit_scale"),
        "attn_mask",
    )


def transformers_entries(config: CLIPConfig, prefix: str) -> list[Entry]:
    """The table of transformers' keys; before version 5 the prefix is "text_model."."""
    embeddings = f"{prefix}embeddings"
    found = [
        Entry((f"{prefix}{TOKENS}",), ("tokens",), name_table.SAME),
        Entry(
            (f"{embeddings}.position_embedding.weight",),
            ("positions",),
            name_table.SAME,
        ),
    ]
    for i in range(config.num_layers):
        key, attn = f"{prefix}encoder.layers.{i}", ("blocks", i, "attn")
        names = [f"{key}.self_attn.{part}_proj" for part in "qkv"]
        for theirs, ours in (("weight", "kernel"), ("bias", "bias")):
            keys = tuple(f"{name}.{theirs}" for name in names)
            found.append(Entry(keys, (*attn, "qkv", ours), QKV))
        found += _linear(f"{key}.self_attn.out_proj", (*attn, "proj"))
        found += name_table.norm(f"{key}.layer_norm1", (*attn, "norm"))
        found += _mlp(f"{key}.mlp", ("fc1", "fc2"), f"{key}.layer_norm2", i)
    return found + name_table.norm(f"{prefix}final_layer_norm", ("norm",))


def openclip_entries(config: CLIPConfig, prefix: str) -> list[Entry]:
    """The table of OpenCLIP's keys, of as many layers as the configuration has."""
    found = [
        Entry((f"{prefix}{OPENCLIP_TOKENS}",), ("tokens",), name_table.SAME),
        Entry((f"{prefix}positional_embedding",), ("positions",), name_table.SAME),
    ]
    for i in range(config.num_layers):
        key, attn = f"{prefix}transformer.resblocks.{i}", ("blocks", i, "attn")
        stacked, path = f"{key}.attn.in_proj", (*attn, "qkv")
        found += [
            Entry((f"{stacked}_weight",), (*path, "kernel"), name_table.LINEAR),
            Entry((f"{stacked}_bias",), (*path, "bias"), name_table.SAME),
            *_linear(f"{key}.attn.out_proj", (*attn, "proj")),
            *name_table.norm(f"{key}.ln_1", (*attn, "norm")),
            *_mlp(f"{key}.mlp", ("c_fc", "c_proj"), f"{key}.ln_2", i),
        ]
    return found + name_table.norm(f"{prefix}ln_final", ("norm",))


def _mlp(key: str, names: tuple[str, str], norm: str, block: int) -> list[Entry]:
    path = ("blocks", block, "mlp")
    return [
        *name_table.norm(norm, (*path, "norm")),
        *_linear(f"{key}.{names[0]}", (*path, "expand")),
        *_linear(f"{key}.{names[1]}", (*path, "contract")),
    ]


def _linear(key: str, path: Path) -> list[Entry]:
    return name_table.layer(key, path, name_table.LINEAR)
