"""A base in latents as a folder that diffusers' pipelines load.

`StableDiffusionPipeline` of one that is told texts, `LDMPipeline` of another. The
configurations say what they differ in from a class's defaults.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rad_jax.checkpoints.model import Codec, Model
from rad_jax.convert import autoencoder, clip, diffusers, sd
from rad_jax.convert.diffusers_folder import CONFIG, SCHEDULER, STEM
from rad_jax.convert.finite import FiniteCheck
from rad_jax.convert.infer import DIFFUSERS
from rad_jax.convert.latent_folder import (
    CODECS,
    INDEX,
    TEXT,
    TEXT_STEMS,
    TOKENIZER,
    UNET,
)
from rad_jax.convert.pipeline_configs import (
    VERSION,
    codec_config,
    encoder_config,
    scheduler_config,
    sd_config,
    unet_config,
)
from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_folder
from rad_jax.files.bucket import AnyPath
from rad_jax.models.config import UNetConfig
from rad_jax.models.sd_config import SDConfig
from rad_jax.text.tokenizer_files import write_tokenizer
from rad_jax.weight_files import name_table
from rad_jax.weight_files.name_table import Written
from rad_jax.weight_files.write import write_safetensors

TEXT_PREFIX = "text_model."
"""Of the encoder's keys, as transformers before version 5 has them; later ones read
them, too.
"""

PARTS = (INDEX, UNET, *CODECS, TEXT, TOKENIZER, SCHEDULER.parent.name)
"""All that such a folder holds."""


def write_folder(
    model: Model,
    provenance: Mapping[str, Any],
    source: AnyPath,
    folder: Path,
    check: FiniteCheck,
    *,
    overwrite: bool,
) -> None:
    """Writes the folder whole or not at all, weights in float32.

    Args:
      model: a base in latents, its tokenizer with it.
      provenance: where it comes from.
      source: its folder, for messages.
      folder: the new one.
      check: of its numbers.
      overwrite: replace such a folder that exists.

    Raises:
      UserError: diffusers has no such network or process, numbers are not finite, or
        the folder exists or cannot be written.
    """
    _check_free(folder, overwrite=overwrite)
    try:
        configs = _configs(model, provenance)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    states = _states(model, provenance)
    for state in states.values():
        check.look_at_all(source, state)
    with atomic_folder(folder) as part:
        for name, config in configs.items():
            path = part / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name, state in states.items():
            write_safetensors(part / name, state)
        if model.text and model.text.tokenizer:
            (part / TOKENIZER).mkdir()
            write_tokenizer(model.text.tokenizer, part / TOKENIZER)
    count = sum(map(len, states.values()))
    print(f"rad-jax: {count} arrays in the layout of {DIFFUSERS}: {folder}")


def _check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder that must not be replaced.

    Raises:
      UserError: anything is there; with ``overwrite`` anything but such a folder.
    """
    if not folder.exists():
        return
    if not (folder / INDEX).is_file():
        raise UserError(
            f"{folder}: exists, and is no folder of diffusers; choose another"
        )
    if more := {path.name for path in folder.iterdir()} - set(PARTS):
        raise UserError(
            f"{folder}: exists, and holds more than is written here ({min(more)}); "
            "choose another"
        )
    if not overwrite:
        raise UserError(f"{folder}: exists; choose another output or --overwrite")


def _codec_name(model: Model) -> str:
    """What the pipeline calls the autoencoder."""
    return CODECS[0] if model.text else CODECS[1]


def _states(model: Model, provenance: Mapping[str, Any]) -> dict[str, Written]:
    """The arrays by the file that they go to."""
    codec, config = cast(Codec, model.codec), model.config
    if isinstance(config, SDConfig):
        linear = bool(provenance.get(sd.LINEAR, False))
        table = sd.diffusers_entries(config, linear=linear)
    else:
        table = diffusers.entries(cast(UNetConfig, config))
    weights = f"{STEM}.safetensors"
    states = {
        f"{UNET}/{weights}": name_table.write(
            table, model.abstract_params(), model.params
        ),
        f"{_codec_name(model)}/{weights}": autoencoder.from_params(
            codec.config, codec.params, DIFFUSERS
        ),
    }
    if model.text:
        table = clip.transformers_entries(model.text.config, TEXT_PREFIX)
        states[f"{TEXT}/{TEXT_STEMS['.safetensors']}.safetensors"] = name_table.write(
            table, model.text.abstract_params(), model.text.params
        )
    return states


def _configs(model: Model, provenance: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The JSON files by name, but for the tokenizer's.

    Raises:
      UserError: diffusers has no such network or process.
    """
    codec, config = cast(Codec, model.codec).config, model.config
    scheduler = scheduler_config(model)
    if isinstance(config, SDConfig):
        unet = sd_config(config, linear=bool(provenance.get(sd.LINEAR, False)))
    else:
        unet = unet_config(cast(UNetConfig, config))
    vae = codec_config(codec)
    name = _codec_name(model)
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline" if model.text else "LDMPipeline",
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "unet": ["diffusers", unet["_class_name"]],
        name: ["diffusers", vae["_class_name"]],
    }
    configs = {
        INDEX: index,
        str(SCHEDULER): scheduler,
        f"{UNET}/{CONFIG}": unet,
        f"{name}/{CONFIG}": vae,
    }
    if model.text:
        index |= {
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
        }
        configs[f"{TEXT}/{CONFIG}"] = encoder_config(model.text)
    return configs
