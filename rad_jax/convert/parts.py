"""Networks in files to the parts of a model, and the model to its folder."""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.model import AnyModel, parts, with_params
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.convert import lama
from rad_jax.convert.choices import Choices
from rad_jax.convert.finite import FiniteCheck
from rad_jax.errors import UserError
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.progress import progress
from rad_jax.text.tokenizer import Tokenizer
from rad_jax.weight_files import name_table
from rad_jax.weight_files.lazy_array import MappedArrays
from rad_jax.weight_files.name_table import Entry
from rad_jax.weight_files.network import Network


class Job(NamedTuple):
    """What to convert, and how; the attributes are those of `command.convert`."""

    source: Path
    folder: Path
    choices: Choices
    preset: str | None
    key: str | None
    tokenizer: Path | None
    allow_nonfinite: bool
    overwrite: bool


class Part(NamedTuple):
    """A network of a file, which becomes a part of a model.

    Attributes:
      path: its file, for messages.
      network: its arrays.
      entries: the table of its names.
    """

    path: Path
    network: Network
    entries: list[Entry]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Begins errors with the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def shapes_of(network: Network) -> dict[str, tuple[int, ...]]:
    """The shape of each array, by key."""
    return {key: span.shape for key, span in network.arrays.spans.items()}


def without(network: Network, keys: Sequence[str]) -> Network:
    """The network without some of its arrays."""
    spans = network.arrays.spans
    kept = {key: span for key, span in spans.items() if key not in set(keys)}
    arrays = dataclasses.replace(network.arrays, spans=kept)
    return network._replace(arrays=arrays)


def check_vocabulary(folder: Path, tokenizer: Tokenizer, config: CLIPConfig) -> None:
    """Refuses a tokenizer that has more tokens than an encoder.

    Raises:
      UserError: naming its folder.
    """
    count = len(tokenizer.tokens)
    if count > config.vocab_size:
        raise UserError(
            f"{folder}: has {count} tokens, and the text encoder {config.vocab_size}; "
            "they are of different models"
        )


def write_parts(
    job: Job, model: AnyModel, read: Mapping[str, Part], about: Mapping[str, Any]
) -> None:
    """Writes a model folder of what was found in files.

    Args:
      job: what to convert.
      model: without parameters.
      read: of each of the model's `parts`.
      about: what else to record of where it comes from.

    Raises:
      UserError: weights do not fit, are not finite, or the folder cannot be written.
    """
    check = FiniteCheck(job.allow_nonfinite)
    files = dict.fromkeys(file for part in read.values() for file in part.network.files)
    # Beside each other: neither takes more than one core.
    with ThreadPoolExecutor(1) as thread:
        digest = thread.submit(_sha256, list(files))
        trees = {
            name: _params(ours.abstract_params(), read[name], check)
            for name, ours in parts(model).items()
        }
    provenance = {
        "file": job.source.name,
        "sha256": digest.result(),
        **about,
        "preset": job.preset,
    }
    model = with_params(model, trees)
    write_model(job.folder, model, provenance, overwrite=job.overwrite)
    check.report()
    print(f"rad-jax: the model is {job.folder}")


def _params(abstract: dict[str, Any], part: Part, check: FiniteCheck) -> dict[str, Any]:
    """The parameters, made of one mapped array at a time."""
    state: MappedArrays = part.network.arrays
    with naming(part.path):
        # Quantised weights, cast as they are, would be noise.
        for key, span in state.spans.items():
            if not jnp.issubdtype(span.dtype, jnp.floating):
                raise UserError(f"{key} is {span.dtype}; weights are floats")
        ticks = iter(progress(part.entries, desc="convert", unit="array"))
        watched = _watched(part.entries, ticks, check)
        params = name_table.read(watched, abstract, state)
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


def say(path: Path, network: Network, layout: str, facts: Mapping[str, Any]) -> None:
    """Prints what was found in a file, and what its shapes tell."""
    spans = network.arrays.spans
    count = sum(
        math.prod(span.shape)
        for key, span in spans.items()
        if not key.endswith(lama.STATISTICS)
    )
    types = sorted({str(span.dtype) for span in spans.values()})
    print(
        f"{path}: {len(spans)} arrays, {count:,} parameters, {'/'.join(types)}, in the "
        f"layout of {layout}"
    )
    if facts:
        found = [f"{name} {value}" for name, value in facts.items()]
        print(f"from shapes: {', '.join(found)}")
