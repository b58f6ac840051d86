"""Adapters alone, as PEFT keeps them: a folder of a few megabytes, without the base.

``adapter_model.safetensors`` and ``adapter_config.json`` are PEFT's, with the names of
diffusers' `UNet2DModel`; the layers conditioned on the time, which train in full, are
among its "modules to save". ``rad_jax.json`` says what PEFT has no word for.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.checkpoints.load import load_trained, model_of
from rad_jax.checkpoints.model import AnyModel, Model, require_diffusion
from rad_jax.checkpoints.model_record import (
    check_free,
    described,
    read_record,
    write_record,
)
from rad_jax.convert import diffusers
from rad_jax.convert.finite import FiniteCheck
from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_folder
from rad_jax.files.bucket import AnyPath
from rad_jax.files.from_dict import build
from rad_jax.files.paths import local_path
from rad_jax.models.config import LoRAConfig, UNetConfig
from rad_jax.models.lora import adapted_params, partition, plain_params
from rad_jax.models.network import differences
from rad_jax.weight_files import name_table
from rad_jax.weight_files.name_table import Entry, Layout
from rad_jax.weight_files.read import read_state_dict
from rad_jax.weight_files.write import write_safetensors

KIND = "folder of adapters"
RECORD = "rad_jax.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."

MODULES = {
    "conv_in": ("conv_in",),
    "conv_out": ("conv_out",),
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "qkv": ("to_q", "to_k", "to_v"),
    "proj": ("to_out.0",),
    "shortcut": ("conv_shortcut",),
    "conv": ("conv",),
}
"""Names that diffusers has for the targets of `LoRAConfig`."""

TIME_MODULES = ("linear_1", "linear_2", "time_emb_proj")

EACH = Layout(
    lambda *parts: np.stack([part.T for part in parts]),
    lambda x: tuple(part.T for part in x),
)
"""(out, in) of q, k and v to (3, in, out)."""


def entries(config: UNetConfig, lora: LoRAConfig) -> list[Entry]:
    """The table of what trains of an adapted network."""
    found = []
    for entry in diffusers.entries(config):
        keys = tuple(PREFIX + key for key in entry.keys)
        *path, name = entry.path
        if "time_embed" in path:
            found.append(dataclasses.replace(entry, keys=keys))
        elif name == "kernel" and path[-1] in lora.targets:
            modules = [key.removesuffix(".weight") for key in keys]
            for part, layout in zip("ab", _layouts(entry), strict=True):
                names = tuple(f"{x}.lora_{part.upper()}.weight" for x in modules)
                found.append(Entry(names, (*path, f"lora_{part}"), layout))
    return found


def _layouts(entry: Entry) -> tuple[Layout, Layout]:
    """Of the two layers of an adapter, by the layer that it adapts."""
    if len(entry.keys) == 3:
        return EACH, EACH
    if entry.layout is name_table.CONV:
        return name_table.CONV, name_table.POINTWISE_2D
    return entry.layout, entry.layout


def write_adapters(
    workdir: AnyPath,
    folder: AnyPath,
    *,
    overwrite: bool = False,
    check: FiniteCheck | None = None,
) -> int:
    """Writes the averaged adapters of a training run, whole or not at all.

    Args:
      workdir: of the run.
      folder: the new folder.
      overwrite: replace a folder of adapters.
      check: of their numbers; by default all must be finite.

    Returns:
      The number of bytes of their weights.

    Raises:
      UserError: the run has no adapters, or the folder exists or cannot be written.
    """
    check_free(
        folder,
        overwrite=overwrite,
        kind=KIND,
        record=RECORD,
        others=(CONFIG, WEIGHTS),
    )
    step, experiment, trained = load_trained(workdir)
    config, lora = experiment.model, experiment.lora
    base = Path(experiment.start_from).name
    if not isinstance(config, UNetConfig):
        raise UserError(
            f"{workdir}: is of the architecture {config.architecture}, of whose layers "
            "PEFT has no names; convert the run without --to"
        )
    if not lora.rank:
        raise UserError(f"{workdir}: has no adapters, all of its parameters trained")
    abstract, _ = partition(config, lora, adapted_params(config, lora))
    state = name_table.write(entries(config, lora), abstract, trained)
    (check or FiniteCheck()).look_at_all(workdir, state)
    with atomic_folder(folder) as part:
        write_record(
            part / RECORD,
            model_of(experiment, {}),
            {"step": step, "base": base},
            lora=dataclasses.asdict(lora),
        )
        text = json.dumps(peft_config(base, lora), indent=2)
        (part / CONFIG).write_text(text + "\n")
        write_safetensors(part / WEIGHTS, state)
        return (part / WEIGHTS).stat().st_size


def peft_config(base: str, lora: LoRAConfig) -> dict[str, Any]:
    """What PEFT's ``LoraConfig`` is to know."""
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": [name for x in lora.targets for name in MODULES[x]],
        "modules_to_save": list(TIME_MODULES),
        "init_lora_weights": "gaussian",
        "bias": "none",
        "inference_mode": True,
    }


def with_adapters(base: AnyModel, folder: str | Path) -> Model:
    """A model with the adapters of a folder merged into it.

    Args:
      base: the model that they were trained on.
      folder: from ``rad-jax convert --to adapters``.

    Raises:
      UserError: the folder holds no adapters, they are damaged, or they are of a
        network of another architecture.
    """
    folder = local_path(folder)
    record = read_record(folder / RECORD, KIND)
    base = require_diffusion(base, str(folder))
    trained_on = require_diffusion(described(folder / RECORD, record), str(folder))
    config = trained_on.config
    try:
        lora = build(LoRAConfig, record["lora"], "lora.")
        if not lora.rank:
            raise UserError("lora.rank is 0")
    except (UserError, KeyError, TypeError) as error:
        raise UserError(f"{folder / RECORD}: is damaged ({error})") from error
    # In the adapters' file queries, keys and values stand apart, whatever their order.
    different = differences(base.config, config).keys() - {"use_new_attention_order"}
    if different:
        raise UserError(
            f"{folder}: these adapters are of another architecture than the base "
            f"({', '.join(sorted(different))})"
        )
    assert isinstance(base.config, UNetConfig)  # none are written of others
    abstract, _ = partition(base.config, lora, adapted_params(base.config, lora))
    state = read_state_dict(folder / WEIGHTS)
    try:
        trained = name_table.read(entries(base.config, lora), abstract, state)
    except UserError as error:
        raise UserError(f"{folder / WEIGHTS}: {error}") from error
    _, frozen = partition(base.config, lora, base.params)
    merged = plain_params(base.config, lora, trained, frozen)
    # The base may have been conditioned on the noise in another way.
    ours = dataclasses.replace(base.config, noise_embedding=config.noise_embedding)
    return trained_on._replace(config=ours, params=merged)
