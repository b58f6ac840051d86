"""``rad-jax convert``: a file of another program to a model folder, and back."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.load import is_model_folder, load, read_folder
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import check_free, write_model
from rad_jax.convert import adm, diffusers, peft
from rad_jax.convert.choices import Choices
from rad_jax.convert.infer import DIFFUSERS, OPENAI, RAD, Facts, infer
from rad_jax.convert.presets import choices_of, complete, config_of
from rad_jax.diffusion.schedule import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, in_bucket
from rad_jax.models.config import UNetConfig
from rad_jax.models.unet import abstract_params
from rad_jax.progress import progress
from rad_jax.weight_files import name_table
from rad_jax.weight_files.lazy_array import MappedArrays
from rad_jax.weight_files.name_table import Entry
from rad_jax.weight_files.read import read_state_dict
from rad_jax.weight_files.write import write_safetensors, write_torch

FORMATS = ("torch", "safetensors", "diffusers")
"""What a model can be written as: ADM's layout as .pt or .safetensors, and diffusers'
layout as .safetensors."""

ADAPTERS = "adapters"
"""What a training run's adapters are written as: a folder of PEFT's."""

ENTRIES = {
    OPENAI: adm.entries,
    DIFFUSERS: diffusers.entries,
    RAD: functools.partial(diffusers.entries, pointwise_time=True),
}
"""The table of each layout."""


def convert(
    source: AnyPath,
    output: Path,
    *,
    preset: str | None = None,
    choices: Choices | None = None,
    to: str | None = None,
    base: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Makes a model folder of a file of weights or a training run, or a file of either.

    Adapters go apart from their base and back as well.

    From a file to a folder and back is the identity, bit for bit, for files of float32.
    Weights are held in memory once. What was found, and what comes from where, is
    printed.

    Args:
      source: file of an ADM in the layout of guided-diffusion or diffusers (see
        `read_state_dict`), workdir of a training run (its averaged parameters), with
        `to` a model folder, or with `base` a folder of adapters.
      output: the new model folder, or with `to` the new file.
      preset: of a file: name in `presets.PRESETS` that says what shapes do not tell.
      choices: of a file: the same by hand, instead of a preset or before it.
      to: one of `FORMATS`, or `ADAPTERS` of a training run.
      base: folder of the model that adapters are merged into.
      overwrite: replace the output, if that is what would be written: a model folder,
        a folder of adapters, or with `to` a file.

    Raises:
      UserError: anything does not fit, is damaged, or cannot be written.
    """
    choices = choices or Choices()
    if to is not None and to not in (*FORMATS, ADAPTERS):
        raise UserError(f"--to is {to!r}; use one of {', '.join(FORMATS)}, {ADAPTERS}")
    if source.is_file():
        file = _checked_file(source, to, base)
        _file_to_folder(file, output, preset, choices, overwrite)
        return
    _check_folder(source, preset, choices)
    if base is not None:
        _merge(_checked_adapters(source, to), base, output, overwrite)
    elif (source / peft.RECORD).is_file():
        raise UserError(f"{source}: holds adapters; give their model as --base")
    elif to == ADAPTERS:
        size = peft.write_adapters(source, output, overwrite=overwrite)
        print(f"rad-jax: the adapters, {size / 1e6:.1f} MB, are {output}")
    elif to is not None:
        _to_file(source, output, to, overwrite)
    elif is_model_folder(source):
        raise UserError(
            f"{source}: is a model folder already; --to {'|'.join(FORMATS)} writes a "
            "file of it"
        )
    else:
        _run_to_folder(source, output, overwrite)


def _checked_file(source: AnyPath, to: str | None, base: Path | None) -> Path:
    """The file; refuses one in a bucket, and flags that are for folders."""
    if in_bucket(source):
        raise UserError(f"{source}: is a file in a bucket; copy it here first")
    if to is not None:
        raise UserError(f"{source}: is a file; --to is for the folder of a model")
    if base is not None:
        raise UserError(f"{source}: is a file; --base is for a folder of adapters")
    return source


def _check_folder(source: AnyPath, preset: str | None, choices: Choices) -> None:
    """Refuses a folder that is not there, and flags that are for files."""
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder; check the name")
    if preset is not None or choices.made():
        name = "preset" if preset is not None else next(iter(choices.made()))
        raise UserError(f"--{name} has no use with a folder, which records it")


def _checked_adapters(source: AnyPath, to: str | None) -> Path:
    """The folder of adapters to merge; refuses one in a bucket, and --to."""
    if to is not None:
        raise UserError("--base and --to do not go together: convert twice")
    if in_bucket(source):
        raise UserError(f"{source}: lies in a bucket; copy the adapters here first")
    return source


def _file_to_folder(
    source: Path, folder: Path, preset: str | None, choices: Choices, overwrite: bool
) -> None:
    # Before minutes of reading, not after.
    check_free(folder, overwrite=overwrite)
    state = read_state_dict(source)
    try:
        layout, facts = infer({key: span.shape for key, span in state.spans.items()})
        completed = complete(layout, facts, preset, choices)
        config = config_of(facts, completed)
        schedule = ScheduleConfig(kind=str(completed.noise_schedule))
        print(_report(source, state, layout, facts))
        print(_choice_report(preset, choices, completed))
        # Beside each other: neither takes more than one core.
        with ThreadPoolExecutor(1) as thread:
            digest = thread.submit(_sha256, source)
            params = _params(config, layout, state)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    provenance = {
        "file": source.name,
        "sha256": digest.result(),
        "layout": layout,
        "preset": preset,
    }
    # No file says what its network predicts; every published ADM predicts the noise.
    model = Model(config, schedule, "eps", params)
    write_model(folder, model, provenance, overwrite=overwrite)
    print(f"rad-jax: the model is {folder}")


def _params(config: UNetConfig, layout: str, state: MappedArrays) -> dict[str, Any]:
    """The parameters, made of one mapped array at a time."""
    # Quantised weights, cast as they are, would be noise.
    for key, span in state.spans.items():
        if not jnp.issubdtype(span.dtype, jnp.floating):
            raise UserError(f"{key} is {span.dtype}; weights are floats")
    abstract = abstract_params(config)
    entries = ENTRIES[layout](config)
    ticks = iter(progress(entries, desc="convert", unit="array"))
    params = name_table.read(_watched(entries, ticks), abstract, state)
    next(ticks, None)  # past the end, which closes the bar
    return params


def _watched(entries: Sequence[Entry], ticks: Iterator[Any]) -> list[Entry]:
    """The entries, each of which moves a bar on when it is read."""

    def watched(entry: Entry) -> Entry:
        def to_ours(*parts: np.ndarray) -> np.ndarray:
            next(ticks)
            return entry.layout.to_ours(*parts)

        layout = entry.layout._replace(to_ours=to_ours)
        return dataclasses.replace(entry, layout=layout)

    return [watched(entry) for entry in entries]


def _sha256(path: Path) -> str:
    """Of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run_to_folder(workdir: AnyPath, folder: AnyPath, overwrite: bool) -> None:
    check_free(folder, overwrite=overwrite)
    # The optimiser's state stays behind: a model folder is for inference.
    model, provenance = read_folder(workdir)
    write_model(folder, model, provenance, overwrite=overwrite)
    step = provenance["step"]
    print(f"rad-jax: the averaged parameters of step {step} are the model {folder}")


def _merge(adapters: Path, base: Path, folder: Path, overwrite: bool) -> None:
    check_free(folder, overwrite=overwrite)
    model = peft.with_adapters(load(base), adapters)
    # Names alone: a model is passed on, the folders that it was made in are not.
    names = {"base": base.resolve().name, "adapters": adapters.resolve().name}
    write_model(folder, model, names, overwrite=overwrite)
    print(f"rad-jax: the model is {folder}")


def _to_file(folder: AnyPath, path: Path, to: str, overwrite: bool) -> None:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists; choose another output or --overwrite")
    model, provenance = read_folder(folder)
    # What came in RAD's layout goes back to it.
    layout = DIFFUSERS if to == "diffusers" else OPENAI
    if to == "diffusers" and provenance.get("layout") == RAD:
        layout = RAD
    entries, abstract = ENTRIES[layout](model.config), abstract_params(model.config)
    state = name_table.write(entries, abstract, model.params)
    write = write_torch if to == "torch" else write_safetensors
    write(path, state)
    unstored = choices_of(model.config, model.schedule.kind).made()
    text = ", ".join(f"{name} {value}" for name, value in unstored.items())
    if model.config.noise_embedding != "spatial":
        text += f", noise embedding {model.config.noise_embedding}"
    print(f"not in the file: {text}, prediction {model.parametrisation}")
    print(f"rad-jax: {len(state)} arrays in the layout of {layout}: {path}")


def _report(path: Path, state: MappedArrays, layout: str, facts: Facts) -> str:
    count = sum(math.prod(span.shape) for span in state.spans.values())
    types = sorted({str(span.dtype) for span in state.spans.values()})
    found = [f"{name} {value}" for name, value in dataclasses.asdict(facts).items()]
    return (
        f"{path}: {len(state)} arrays, {count:,} parameters, {'/'.join(types)}, in the "
        f"layout of {layout}\nfrom shapes: {', '.join(found)}"
    )


def _choice_report(preset: str | None, choices: Choices, completed: Choices) -> str:
    given, lines = choices.made(), []
    rest = {k: v for k, v in completed.made().items() if k not in given}
    source = "by default" if preset is None else f"from preset {preset}"
    for name, values in (("by hand", given), (source, rest)):
        if values:
            text = ", ".join(f"{key} {value}" for key, value in values.items())
            lines.append(f"{name}: {text}")
    return "\n".join(lines)
