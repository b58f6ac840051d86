"""A file of weights, or a folder of diffusers, to a model folder."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from rad_jax.checkpoints.model import AnyModel, LamaModel, Model
from rad_jax.checkpoints.model_folder import check_free
from rad_jax.convert import adm, diffusers, from_score_sde, lama, latent_file
from rad_jax.convert.choices import Choices
from rad_jax.convert.diffusers_folder import describe, with_new_names
from rad_jax.convert.infer import DIFFUSERS, MARKERS, OPENAI, RAD, Facts, infer
from rad_jax.convert.lama import LAMA, infer_lama
from rad_jax.convert.parts import (
    Job,
    Part,
    naming,
    say,
    shapes_of,
    without,
    write_parts,
)
from rad_jax.convert.presets import complete, config_of, schedule_of
from rad_jax.errors import UserError
from rad_jax.weight_files.name_table import Entry
from rad_jax.weight_files.network import Network, read_network, read_networks

ENTRIES: dict[str, Callable[[Any], list[Entry]]] = {
    OPENAI: adm.entries,
    DIFFUSERS: diffusers.entries,
    RAD: functools.partial(diffusers.entries, pointwise_time=True),
    LAMA: lama.entries,
    **from_score_sde.TABLES,
}
"""The table of each layout."""


def convert_file(job: Job) -> None:
    """Makes a model folder of a file of weights.

    Raises:
      UserError: as `command.convert`.
    """
    # Before minutes of reading, not after.
    check_free(job.folder, overwrite=job.overwrite)
    networks = read_networks(job.source, latent_file.KINDS, job.key)
    network = networks.found[latent_file.PARAMS]
    for note in network.notes:
        print(note)
    if latent_file.is_latent(networks):
        latent_file.convert_latent(job, networks)
        return
    if job.tokenizer is not None:
        raise UserError(
            f"{job.source}: is told no text; --tokenizer has no use with it"
        )
    if lama.FIRST in network.arrays:
        _convert_lama(job, network)
        return
    if layout := from_score_sde.layout_of(network.arrays):
        _convert_score_sde(job, network, layout)
        return
    with naming(job.source):
        layout, facts = _infer(network)
        completed = complete(layout, facts, job.preset, job.choices)
        config = config_of(facts, completed)
        # No file says what its network predicts; every published ADM predicts noise.
        schedule = schedule_of(completed)
        model = Model(config, schedule, "eps", {})
        say(job.source, network, layout, dataclasses.asdict(facts))
        told = "by default" if job.preset is None else f"from preset {job.preset}"
        print(_choice_report(job.choices, completed, told))
    _write(job, network, layout, model)


def _convert_lama(job: Job, network: Network) -> None:
    """The same of a LaMa, of which shapes tell all."""
    with naming(job.source):
        made = {"preset": job.preset, **job.choices.made()}
        for name, value in made.items():
            if value is not None and name != "image_size":
                raise UserError(f"--{name} has no use with a LaMa; leave it out")
        network, counters = _without_counters(network)
        config = infer_lama(shapes_of(network))
        if job.choices.image_size is not None:
            config = dataclasses.replace(config, image_size=job.choices.image_size)
        if counters:
            print(f"left out: {counters} counters of batches in training")
        told = {name: getattr(config, name) for name in ("num_blocks", "base_channels")}
        say(job.source, network, LAMA, told)
    _write(job, network, LAMA, LamaModel(config, {}))


def _convert_score_sde(job: Job, network: Network, layout: str) -> None:
    """The same of score_sde, of which a preset tells all."""
    with naming(job.source):
        if made := job.choices.made():
            raise UserError(
                f"--{min(made)} has no use with a network of score_sde, of which a "
                "preset says all; leave it out"
            )
        model = from_score_sde.model_of(layout, shapes_of(network), job.preset)
    say(job.source, network, layout, {"preset": job.preset})
    _write(job, network, layout, model)


def _without_counters(network: Network) -> tuple[Network, int]:
    """The network without the counters of its normalisations, and their number."""
    counters = [key for key in network.arrays.spans if key.endswith(lama.COUNTER)]
    return without(network, counters), len(counters)


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
    if job.tokenizer is not None:
        raise UserError(f"{job.source}: is told no text; leave out --tokenizer")
    weights, describe_as = describe(job.source, job.choices)
    network = with_new_names(read_network(weights, MARKERS, job.key))
    for note in network.notes:
        print(note)
    with naming(weights):
        layout, facts = _infer(network)
        described = describe_as(layout, facts)
        say(weights, network, layout, dataclasses.asdict(facts))
        print(_choice_report(job.choices, described.choices, "from its folder"))
    model = Model(described.config, described.schedule, described.parametrisation, {})
    _write(job._replace(source=weights), network, layout, model)


def _infer(network: Network) -> tuple[str, Facts]:
    return infer(shapes_of(network))


def _write(job: Job, network: Network, layout: str, model: AnyModel) -> None:
    if isinstance(model, Model) and layout != RAD:  # a plain ADM knows no phase 2
        schedule = dataclasses.replace(model.schedule, known_steps=0)
        model = model._replace(schedule=schedule)
    part = Part(job.source, network, ENTRIES[layout](model.config))
    write_parts(job, model, {"params": part}, {"layout": layout})


def _choice_report(choices: Choices, completed: Choices, source: str) -> str:
    given, lines = choices.made(), []
    rest = {k: v for k, v in completed.made().items() if k not in given}
    for name, values in (("by hand", given), (source, rest)):
        if values:
            text = ", ".join(f"{key} {value}" for key, value in values.items())
            lines.append(f"{name}: {text}")
    return "\n".join(lines)
