"""A file of weights, or a folder of diffusers, to a model folder."""

import contextlib
import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.model import AnyModel, LamaModel, Model
from rad_jax.checkpoints.model_folder import check_free, write_model
from rad_jax.convert import adm, diffusers, from_score_sde, lama
from rad_jax.convert.choices import Choices
from rad_jax.convert.diffusers_folder import describe
from rad_jax.convert.finite import FiniteCheck
from rad_jax.convert.infer import DIFFUSERS, MARKERS, OPENAI, RAD, Facts, infer
from rad_jax.convert.lama import LAMA, infer_lama
from rad_jax.convert.presets import complete, config_of, schedule_of
from rad_jax.errors import UserError
from rad_jax.progress import progress
from rad_jax.weight_files import name_table
from rad_jax.weight_files.lazy_array import MappedArrays
from rad_jax.weight_files.name_table import Entry
from rad_jax.weight_files.network import Network, read_network

ENTRIES: dict[str, Callable[[Any], list[Entry]]] = {
    OPENAI: adm.entries,
    DIFFUSERS: diffusers.entries,
    RAD: functools.partial(diffusers.entries, pointwise_time=True),
    LAMA: lama.entries,
    **from_score_sde.TABLES,
}
"""The table of each layout."""


class Job(NamedTuple):
    """What to convert, and how; the attributes are those of `command.convert`."""

    source: Path
    folder: Path
    choices: Choices
    preset: str | None
    key: str | None
    allow_nonfinite: bool
    overwrite: bool


def convert_file(job: Job) -> None:
    """Makes a model folder of a file of weights.

    Raises:
      UserError: as `command.convert`.
    """
    # Before minutes of reading, not after.
    check_free(job.folder, overwrite=job.overwrite)
    network = _read(job.source, job.key)
    if lama.FIRST in network.arrays:
        _convert_lama(job, network)
        return
    if layout := from_score_sde.layout_of(network.arrays):
        _convert_score_sde(job, network, layout)
        return
    with _naming(job.source):
        layout, facts = _infer(network)
        completed = complete(layout, facts, job.preset, job.choices)
        config = config_of(facts, completed)
        # No file says what its network predicts; every published ADM predicts noise.
        schedule = schedule_of(completed)
        model = Model(config, schedule, "eps", {})
        _say(job.source, network, layout, dataclasses.asdict(facts))
        told = "by default" if job.preset is None else f"from preset {job.preset}"
        print(_choice_report(job.choices, completed, told))
    _write(job, network, layout, model)


def _convert_lama(job: Job, network: Network) -> None:
    """The same of a LaMa, of which shapes tell all."""
    with _naming(job.source):
        made = {"preset": job.preset, **job.choices.made()}
        for name, value in made.items():
            if value is not None and name != "image_size":
                raise UserError(f"--{name} has no use with a LaMa; leave it out")
        network, counters = _without_counters(network)
        shapes = {key: span.shape for key, span in network.arrays.spans.items()}
        config = infer_lama(shapes)
        if job.choices.image_size is not None:
            config = dataclasses.replace(config, image_size=job.choices.image_size)
        if counters:
            print(f"left out: {counters} counters of batches in training")
        told = {name: getattr(config, name) for name in ("num_blocks", "base_channels")}
        _say(job.source, network, LAMA, told)
    _write(job, network, LAMA, LamaModel(config, {}))


def _convert_score_sde(job: Job, network: Network, layout: str) -> None:
    """The same of score_sde, of which a preset tells all."""
    with _naming(job.source):
        if made := job.choices.made():
            raise UserError(
                f"--{min(made)} has no use with a network of score_sde, of which a "
                "preset says all; leave it out"
            )
        shapes = {key: span.shape for key, span in network.arrays.spans.items()}
        model = from_score_sde.model_of(layout, shapes, job.preset)
    _say(job.source, network, layout, {"preset": job.preset})
    _write(job, network, layout, model)


def _without_counters(network: Network) -> tuple[Network, int]:
    """The network without the counters of its normalisations, and their number."""
    spans = network.arrays.spans
    kept = {key: span for key, span in spans.items() if not key.endswith(lama.COUNTER)}
    arrays = dataclasses.replace(network.arrays, spans=kept)
    return network._replace(arrays=arrays), len(spans) - len(kept)


def convert_diffusers(job: Job) -> None:
    """Makes a model folder of a folder of diffusers, which says what network it is of.

    Raises:
      UserError: as `command.convert`.
    """
    check_free(job.folder, overwrite=job.overwrite)
    if job.preset is not None:
        raise UserError(
            f"{job.source}: --preset has no use with a folder of diffusers, whose "
            "config.json describes the network"
        )
    weights, describe_as = describe(job.source, job.choices)
    network = _read(weights, job.key)
    with _naming(weights):
        layout, facts = _infer(network)
        described = describe_as(layout, facts)
        _say(weights, network, layout, dataclasses.asdict(facts))
        print(_choice_report(job.choices, described.choices, "from its folder"))
    model = Model(described.config, described.schedule, described.parametrisation, {})
    _write(job._replace(source=weights), network, layout, model)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Begins errors with the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _read(path: Path, key: str | None) -> Network:
    network = read_network(path, MARKERS, key)
    for note in network.notes:
        print(note)
    return network


def _infer(network: Network) -> tuple[str, Facts]:
    return infer({key: span.shape for key, span in network.arrays.spans.items()})


def _write(job: Job, network: Network, layout: str, model: AnyModel) -> None:
    check = FiniteCheck(job.allow_nonfinite)
    # Beside each other: neither takes more than one core.
    with _naming(job.source), ThreadPoolExecutor(1) as thread:
        digest = thread.submit(_sha256, network.files)
        params = _params(model, layout, network.arrays, check)
    provenance = {
        "file": job.source.name,
        "sha256": digest.result(),
        "layout": layout,
        "preset": job.preset,
    }
    model = model._replace(params=params)
    if isinstance(model, Model) and layout != RAD:  # a plain ADM knows no phase 2
        schedule = dataclasses.replace(model.schedule, known_steps=0)
        model = model._replace(schedule=schedule)
    write_model(job.folder, model, provenance, overwrite=job.overwrite)
    check.report()
    print(f"rad-jax: the model is {job.folder}")


def _params(
    model: AnyModel, layout: str, state: MappedArrays, check: FiniteCheck
) -> dict[str, Any]:
    """The parameters, made of one mapped array at a time."""
    # Quantised weights, cast as they are, would be noise.
    for key, span in state.spans.items():
        if not jnp.issubdtype(span.dtype, jnp.floating):
            raise UserError(f"{key} is {span.dtype}; weights are floats")
    abstract, entries = model.abstract_params(), ENTRIES[layout](model.config)
    ticks = iter(progress(entries, desc="convert", unit="array"))
    params = name_table.read(_watched(entries, ticks, check), abstract, state)
    next(ticks, None)  # past the end, which closes the bar
    return params


def _watched(
    entries: Sequence[Entry], ticks: Iterator[Any], check: FiniteCheck
) -> list[Entry]:
    """The entries, which look at what they read and move a bar on."""

    def watched(entry: Entry) -> Entry:
        def to_ours(*parts: np.ndarray) -> np.ndarray:
            next(ticks)
            for key, part in zip(entry.keys, parts, strict=True):
                check.look(key, part)
            return entry.layout.to_ours(*parts)

        layout = entry.layout._replace(to_ours=to_ours)
        return dataclasses.replace(entry, layout=layout)

    return [watched(entry) for entry in entries]


def _sha256(paths: Sequence[Path]) -> str:
    """Of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _say(path: Path, network: Network, layout: str, facts: Mapping[str, Any]) -> None:
    spans = network.arrays.spans
    count = sum(
        math.prod(span.shape)
        for key, span in spans.items()
        if not key.endswith(lama.STATISTICS)
    )
    types = sorted({str(span.dtype) for span in spans.values()})
    found = [f"{name} {value}" for name, value in facts.items()]
    print(
        f"{path}: {len(spans)} arrays, {count:,} parameters, {'/'.join(types)}, in the "
        f"layout of {layout}\nfrom shapes: {', '.join(found)}"
    )


def _choice_report(choices: Choices, completed: Choices, source: str) -> str:
    given, lines = choices.made(), []
    rest = {k: v for k, v in completed.made().items() if k not in given}
    for name, values in (("by hand", given), (source, rest)):
        if values:
            text = ", ".join(f"{key} {value}" for key, value in values.items())
            lines.append(f"{name}: {text}")
    return "\n".join(lines)
