"""Single files of bases in latents: latent diffusion's, and Stable Diffusion's.

CompVis's programs save all networks of a base as one: the U-Net behind
`model.diffusion_model.`, its autoencoder behind `first_stage_model.`, and the encoder
of texts behind `cond_stage_model.`. What shapes do not tell, a preset does.
"""

import dataclasses
from collections.abc import Mapping
from typing import cast

import numpy as np

from rad_jax.checkpoints.model import Codec, Model, Text
from rad_jax.convert import adm, autoencoder, clip, infer, sd
from rad_jax.convert.latent_presets import LATENT_PRESETS, LatentPreset, process
from rad_jax.convert.parts import (
    Job,
    Part,
    check_vocabulary,
    naming,
    say,
    shapes_of,
    without,
    write_parts,
)
from rad_jax.diffusion.betas import make_betas
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.remarks import some
from rad_jax.models import autoencoder as codecs
from rad_jax.models import clip as texts
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.models.network import abstract_params
from rad_jax.models.sd_config import SDConfig
from rad_jax.text.tokenizer import Tokenizer
from rad_jax.text.tokenizer_files import read_tokenizer
from rad_jax.weight_files import name_table
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.lazy_array import MappedArrays
from rad_jax.weight_files.name_table import Entry
from rad_jax.weight_files.network import Network, Networks

LAYOUT = "compvis"

PARAMS, CODEC, TEXT = "params", "codec", "text"
KINDS = {PARAMS: infer.MARKERS, CODEC: autoencoder.MARKERS, TEXT: clip.MARKERS}
"""Markers of what such a file holds; the names are those of a model's `parts`."""

TRANSFORMER = ".transformer_blocks.0.attn2.to_k.weight"
"""End of a key that a network has that is told states."""

LABELS = "label_emb.0.0.weight"
"""Key of Stable Diffusion XL, which is told sizes, too."""

BETAS, FACTOR = "betas", "scale_factor"
"""What a file has of its process and of its latents."""

MOST_SHOWN = 3


def is_latent(networks: Networks) -> bool:
    """Whether a file is of such a base, or of its U-Net alone."""
    found = networks.found
    return CODEC in found or any(x.endswith(TRANSFORMER) for x in found[PARAMS].arrays)


def convert_latent(job: Job, networks: Networks) -> None:
    """Makes a model folder of such a file.

    Raises:
      UserError: as `command.convert`.
    """
    with naming(job.source):
        _check_supported(networks)
        preset = _preset(job, networks.found)
        found = _used(preset, networks.found)
        schedule = process("scaled_linear", preset.ends)
        _check_betas(schedule, networks.beside)
        factor = _factor(preset, networks.beside)
        if preset.text is None and job.tokenizer is not None:
            raise UserError("is told no text; leave out --tokenizer")
    text = Text(preset.text, {}, _tokenizer(job, preset)) if preset.text else None
    codec = Codec(dataclasses.replace(preset.codec, scaling_factor=factor), {})
    config, predicted = preset.config, preset.parametrisation
    model = Model(config, schedule, predicted, {}, codec=codec, text=text)
    for name, network in found.items():
        if lost := len(networks.found[name].arrays) - len(network.arrays):
            print(f"left out: {lost} arrays of {name}, which nothing here uses")
        say(job.source, network, f"{LAYOUT}, {name}", {})
    print(
        f"from preset {job.preset}: image_size {model.image_size}, prediction "
        f"{predicted}, scaled linear betas {preset.ends[0]} to {preset.ends[1]}, "
        f"latents times {factor:g}"
    )
    tables = _tables(preset, found)
    read = {name: Part(job.source, found[name], tables[name]) for name in tables}
    linear = sd.is_linear(found[PARAMS].arrays)
    write_parts(job, model, read, {"layout": LAYOUT, sd.LINEAR: linear})


def _check_supported(networks: Networks) -> None:
    """Refuses what is no whole base, or one of another kind."""
    found, network = networks.found, networks.found[PARAMS]
    keys = network.arrays.spans
    first = infer.MARKERS[0][1]
    if first not in keys:
        raise UserError(
            "has an autoencoder of latent diffusion, but no U-Net of CompVis's layout "
            "(model.diffusion_model.); give the whole checkpoint, or its folder of "
            "diffusers"
        )
    if LABELS in keys:
        raise UserError("is of Stable Diffusion XL, which is not supported yet")
    told = any(key.endswith(TRANSFORMER) for key in keys)
    channels = infer.size_of(shapes_of(network), first, 1)
    if told and channels == 9:
        raise UserError(
            "is of an inpainting U-Net of 9 channels, which is shown mask and picture "
            "beside the noise; that is not supported yet, give the 4-channel one"
        )
    if CODEC not in found:
        raise UserError(
            "has the U-Net of a base in latents, but no autoencoder of its own "
            "(first_stage_model.); give the whole checkpoint"
        )
    if told and TEXT not in found:
        raise UserError(
            "has a U-Net that is told something, but no text encoder of CLIP "
            "(cond_stage_model.); of such only Stable Diffusion 1.x and 2.x can be "
            "converted"
        )


def _preset(job: Job, found: Mapping[str, Network]) -> LatentPreset:
    """The preset of a job, if it is of the networks that were found.

    Raises:
      UserError: there is none, or it is of others: naming those that fit.
    """
    if made := job.choices.made():
        raise UserError(
            f"--{min(made)} has no use with a base in latents, of which a preset says "
            "all; leave it out"
        )
    if job.preset is None:
        raise UserError(
            "is of a base in latents, whose files do not say what they were trained "
            f"for: give a preset{_fitting(found)}"
        )
    if job.preset not in LATENT_PRESETS:
        raise UserError(
            f"{shown(job.preset)} is no preset of bases in latents; there are "
            f"{', '.join(LATENT_PRESETS)}"
        )
    preset = LATENT_PRESETS[job.preset]
    if wrong := _difference(preset, found):
        raise UserError(f"does not match preset {job.preset}: {wrong}{_fitting(found)}")
    return preset


def _used(preset: LatentPreset, found: Mapping[str, Network]) -> dict[str, Network]:
    """The preset's networks, without what a filling does not depend on."""
    codec = found[CODEC]
    lost = [key for key in codec.arrays if key.startswith(autoencoder.LOSS)]
    used = {PARAMS: found[PARAMS], CODEC: without(codec, lost)}
    if preset.text and TEXT in found:
        text = found[TEXT]
        used[TEXT] = without(text, clip.unused(preset.text, text.arrays))
    return used


def _tables(
    preset: LatentPreset, used: Mapping[str, Network]
) -> dict[str, list[Entry]]:
    """The table of each network, in the layout that its keys have.

    Raises:
      UserError: one is of no such layout.
    """
    arrays, layout = used[PARAMS].arrays, autoencoder.layout_of(used[CODEC].arrays)
    if layout is None:
        raise UserError("its autoencoder is of none of latent diffusion's layouts")
    if isinstance(preset.config, SDConfig):
        linear = sd.is_linear(arrays)
        own = sd.compvis_entries(preset.config, linear=linear, prefix="")
    else:
        own = adm.entries(preset.config)
    tables = {PARAMS: own, CODEC: autoencoder.entries(preset.codec, layout)}
    if preset.text and TEXT in used:
        tables[TEXT] = clip.entries(preset.text, used[TEXT].arrays)
    return tables


def _difference(preset: LatentPreset, found: Mapping[str, Network]) -> str:
    """In what a file is not of a preset; "" if in nothing."""
    used = _used(preset, found)
    abstract = {
        PARAMS: lambda: abstract_params(preset.config),
        CODEC: lambda: codecs.abstract_params(preset.codec),
        TEXT: lambda: texts.abstract_params(cast(CLIPConfig, preset.text)),
    }
    for name, table in _tables(preset, used).items():
        given = shapes_of(used[name])
        keys = {key for entry in table for key in entry.keys}
        # Names first: shapes take a second each.
        if missing := keys ^ given.keys():
            return (
                f"{name} has {len(given)} arrays and the preset's {len(keys)}, "
                f"{len(missing)} of them of one alone"
            )
        expected = name_table.file_shapes(table, abstract[name]())
        wrong = [
            f"{key} is {given[key]}, the preset's {shape}"
            for key, shape in expected.items()
            if given[key] != shape
        ]
        if wrong:
            return some(wrong, MOST_SHOWN)
    return ""


def _fitting(found: Mapping[str, Network]) -> str:
    """What a message says of the presets that fit."""
    names = [
        name for name, each in LATENT_PRESETS.items() if not _difference(each, found)
    ]
    return f"; presets that fit: {', '.join(names)}" if names else "; no preset fits"


def _check_betas(schedule: ScheduleConfig, beside: MappedArrays) -> None:
    """Refuses a file whose own betas, if it has them, are not the preset's.

    Raises:
      UserError: saying what they are.
    """
    steps = schedule.base_steps
    if BETAS not in beside or beside.spans[BETAS].shape != (steps,):
        return
    found = np.asarray(beside[BETAS], np.float64)
    expected = make_betas(schedule.kind, steps, schedule.hole_betas)
    if not np.allclose(found, expected, rtol=1e-4, atol=0):
        raise UserError(
            f"has betas from {found[0]:g} to {found[-1]:g}, and the preset's go from "
            f"{expected[0]:g} to {expected[-1]:g}; give that of its process"
        )


def _factor(preset: LatentPreset, beside: MappedArrays) -> float:
    """What latents are multiplied by: the file's own factor, or the preset's.

    Raises:
      UserError: the file should have one, or has none that is usable.
    """
    if FACTOR in beside and beside.spans[FACTOR].shape in ((), (1,)):
        factor = float(beside[FACTOR].reshape(()))
        if not 0 < factor < float("inf"):
            raise UserError(f"has the {FACTOR} {factor}, which no latents have")
        return factor
    if preset.own_factor:
        raise UserError(
            f"has no {FACTOR}, which its training found; give the whole checkpoint"
        )
    return float(preset.codec.scaling_factor)


def _tokenizer(job: Job, preset: LatentPreset) -> Tokenizer:
    """The vocabulary, which no such file holds; filled up as the base was trained.

    Raises:
      UserError: it is missing, or none of this encoder.
    """
    text = cast(CLIPConfig, preset.text)
    if job.tokenizer is None:
        raise UserError(
            f"{job.source}: holds no tokenizer; give --tokenizer FOLDER with "
            "tokenizer.json, or vocab.json and merges.txt: the folder tokenizer/ of "
            "any Stable Diffusion in diffusers' form, or of CLIP ViT-L/14"
        )
    found = read_tokenizer(job.tokenizer, text.max_length)
    check_vocabulary(job.tokenizer, found, text)
    try:
        return dataclasses.replace(found, pad=preset.pad)
    except UserError as error:
        raise UserError(f"{job.tokenizer}: {error}") from error
