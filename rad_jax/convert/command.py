"""``rad-jax convert``: a file of another program to a model folder, and back."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from rad_jax.convert import adm, diffusers, table
from rad_jax.convert.diffusers import TIME_LAYERS
from rad_jax.convert.infer import DIFFUSERS, OPENAI, RAD, Facts, infer
from rad_jax.convert.mapped import MappedArrays, Span
from rad_jax.convert.presets import Choices, complete, config_of
from rad_jax.convert.state_files import read_state_dict
from rad_jax.convert.table import Entry
from rad_jax.convert.write_files import write_safetensors, write_torch
from rad_jax.errors import UserError
from rad_jax.model_folder import check_free, read_model, read_record, write_model
from rad_jax.models.config import UNetConfig
from rad_jax.models.unet import abstract_params
from rad_jax.progress import progress
from rad_jax.schedule import ScheduleConfig

FORMATS = ("torch", "safetensors", "diffusers")
"""What a model folder can be written as: ADM's layout as .pt or .safetensors, and
diffusers' layout as .safetensors."""

ENTRIES = {OPENAI: adm.entries, DIFFUSERS: diffusers.entries, RAD: diffusers.entries}

CHUNK = 2**24


def convert(
    source: Path,
    output: Path,
    *,
    preset: str | None = None,
    choices: Choices | None = None,
    to: str | None = None,
    overwrite: bool = False,
) -> None:
    """Makes a model folder of a file of weights, or a file of a model folder.

    There and back is the identity, bit for bit, for files of float32. Weights are held
    in memory once. What was found, and what comes from where, is printed.

    Args:
      source: file of an ADM in the layout of guided-diffusion or diffusers (see
        `read_state_dict`); with `to`, a model folder.
      output: the new model folder, or with `to` the new file.
      preset: name in `presets.PRESETS` that says what shapes do not tell.
      choices: the same by hand, instead of a preset or before it.
      to: one of `FORMATS`.
      overwrite: replace the output.

    Raises:
      UserError: anything does not fit, is damaged, or cannot be written.
    """
    choices = choices or Choices()
    if to is None:
        _to_folder(source, output, preset, choices, overwrite)
    elif preset is not None or choices.made():
        name = "preset" if preset is not None else next(iter(choices.made()))
        raise UserError(f"--{name} has no use with --to: the model folder has it")
    else:
        _to_file(source, output, to, overwrite)


def _to_folder(
    source: Path, folder: Path, preset: str | None, choices: Choices, overwrite: bool
) -> None:
    check_free(folder, overwrite=overwrite)
    state = read_state_dict(source)
    try:
        layout, facts = infer({key: span.shape for key, span in state.spans.items()})
        completed = complete(layout, facts, preset, choices)
        config = config_of(facts, completed)
        schedule = ScheduleConfig(kind=str(completed.noise_schedule))
        print(_report(source, state, layout, facts))
        print(_choice_report(preset, choices, completed))
        params = _params(config, layout, state)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    write_model(
        folder,
        config=config,
        schedule=schedule,
        parametrisation="eps",
        params=params,
        provenance={
            "file": source.name,
            "sha256": _sha256(source),
            "layout": layout,
            "preset": preset,
        },
        overwrite=overwrite,
    )
    print(f"rad-jax: the model is {folder}")


def _params(config: UNetConfig, layout: str, state: MappedArrays) -> dict[str, Any]:
    """The parameters, made of one mapped array at a time."""
    for key, span in state.spans.items():
        if not jnp.issubdtype(span.dtype, jnp.floating):
            raise UserError(f"{key} is {span.dtype}; weights are floats")
    abstract = abstract_params(config)
    entries = ENTRIES[layout](config)
    if layout == RAD:
        shapes = table.file_shapes(entries, abstract)
        spans = {
            key: _without_unit_axes(span, shapes.get(key))
            for key, span in state.spans.items()
        }
        state = dataclasses.replace(state, spans=spans)
    ticks = iter(progress(entries, desc="convert", unit="array"))
    params = table.read(_watched(entries, ticks), abstract, state)
    next(ticks, None)
    return params


def _without_unit_axes(span: Span, shape: tuple[int, ...] | None) -> Span:
    """The kernel of a 1x1 convolution as the matrix that is expected."""
    if shape is None or span.shape != (*shape, 1, 1):
        return span
    return span._replace(shape=shape, strides=span.strides[: len(shape)])


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
    """Of the file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        chunks = range(0, path.stat().st_size, CHUNK)
        for _ in progress(chunks, desc="checksum", unit="chunk"):
            digest.update(file.read(CHUNK))
    return digest.hexdigest()


def _to_file(folder: Path, path: Path, to: str, overwrite: bool) -> None:
    if to not in FORMATS:
        raise UserError(f"--to is {to!r}; use one of {', '.join(FORMATS)}")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists; choose another output or --overwrite")
    provenance = read_record(folder).get("provenance", {})
    config, _, _, params = read_model(folder)
    layout = DIFFUSERS if to == "diffusers" else OPENAI
    if to == "diffusers" and provenance.get("layout") == RAD:
        layout = RAD
    state = _state_dict(config, layout, params)
    write = write_torch if to == "torch" else write_safetensors
    write(path, state)
    print(f"rad-jax: {len(state)} arrays in the layout of {layout}: {path}")


def _state_dict(
    config: UNetConfig, layout: str, params: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The arrays of a file: views of the parameters, as far as possible."""
    flat = cast(dict[table.Path, np.ndarray], flatten_dict(params))
    state = {}
    for entry in ENTRIES[layout](config):
        arrays = entry.layout.to_theirs(flat[entry.path])
        state.update(zip(entry.keys, arrays, strict=True))
    if layout == RAD:
        for key in state:
            if key.endswith(tuple(f"{name}.weight" for name in TIME_LAYERS)):
                state[key] = state[key][..., None, None]
    return state


def _report(path: Path, state: MappedArrays, layout: str, facts: Facts) -> str:
    count = sum(math.prod(span.shape) for span in state.spans.values())
    types = sorted({str(span.dtype) for span in state.spans.values()})
    told = [f"{name} {value}" for name, value in dataclasses.asdict(facts).items()]
    return (
        f"{path}: {len(state)} arrays, {count:,} parameters, {'/'.join(types)}, in the "
        f"layout of {layout}\nfrom shapes: {', '.join(told)}"
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
