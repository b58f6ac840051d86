"""What is shared of a model, as a folder: the model, a copy in safetensors, a card."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rad_jax.checkpoints.describe import parameters
from rad_jax.checkpoints.fingerprint import fingerprint
from rad_jax.checkpoints.hub import CARD, model_at, naming_hub
from rad_jax.checkpoints.load import is_model_folder, read_folder
from rad_jax.checkpoints.model import AnyModel, Model
from rad_jax.checkpoints.model_folder import (
    FOLDERS,
    PARAMS,
    RECORD,
    read_record,
    write_model,
)
from rad_jax.checkpoints.model_record import record_of
from rad_jax.convert.command import Written, write_file
from rad_jax.convert.finite import FiniteCheck
from rad_jax.errors import UserError
from rad_jax.evaluate.results import Record, read_results
from rad_jax.files.bucket import AnyPath, copy_files
from rad_jax.sharing.card import card
from rad_jax.sharing.facts import Facts

COPY = "model.safetensors"
DONE = f"{PARAMS}/commit_success.txt"
"""Where Orbax says that it was done, and in which folder: that is nobody's business."""

CARD_BYTES = 2**18
"""Of a card that is read, at most."""


class Source(NamedTuple):
    """A model to share, read and looked at.

    Attributes:
      place: as it was given, for messages.
      folder: where it lies.
      model: what it is.
      provenance: where it comes from.
      evaluations: of it.
    """

    place: str
    folder: AnyPath
    model: AnyModel
    provenance: Mapping[str, Any]
    evaluations: Sequence[Record]


def read_source(place: str | AnyPath, evaluations: Sequence[Path]) -> Source:
    """Reads a model and what was measured of it.

    Raises:
      UserError: there is no model, a result is none, or one of another model.
    """
    folder = model_at(place)
    with naming_hub(place):
        model, provenance = read_folder(folder)
    found = []
    known = set(_fingerprints(model)) if evaluations else set()
    for path in evaluations:
        for record in read_results([path]):
            if record["settings"].get("model") not in known:
                raise UserError(
                    f"{path}: holds results ({record['name']}) of another model than "
                    f"{place}; give those of this one"
                )
            found.append(_shared(record))
    return Source(str(place), folder, model, provenance, found)


def write_stage(source: Source, stage: Path, repo: str, license: str) -> None:
    """Writes what is to be shared into a folder that exists.

    Raises:
      UserError: numbers of the model are not finite, or files cannot be written.
    """
    folder = source.folder
    if is_model_folder(folder):  # as it is, byte by byte
        every = (path for name in FOLDERS for path in (folder / name).rglob("*"))
        files = [path for path in every if path.is_file()]
        copy_files([folder / RECORD, *files], folder, stage)
    else:
        write_model(stage / "model", source.model, source.provenance)
        for path in (stage / "model").iterdir():
            path.rename(stage / path.name)
        (stage / "model").rmdir()
    if (done := stage / DONE).is_file():
        done.write_text("written\n")
    check = FiniteCheck(allowed=True)
    model, provenance = source.model, source.provenance
    copy = stage / COPY
    written = write_file(model, provenance, folder, copy, "safetensors", check)
    if check.found:
        raise UserError(
            f"{source.place}: is NaN or infinite in {min(check.found)}; such a model "
            "paints nothing, and is not shared"
        )
    facts = Facts(
        repo,
        license,
        read_record(stage),
        _counted(source.model),
        _said(written),
        source.evaluations,
    )
    (stage / CARD).write_text(card(facts), encoding="utf-8")


def stored_card(place: str | AnyPath) -> str | None:
    """The card that lies beside a model, as a terminal may show it; None if none does.

    Raises:
      UserError: there is no model, or its card cannot be read.
    """
    path = model_at(place) / CARD
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            text = file.read(CARD_BYTES).decode(errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return "".join(x for x in text if x.isprintable() or x == "\n")


def card_of(place: str | AnyPath) -> str:
    """The card that lies beside a model, or a draft: without a licence and scores.

    Raises:
      UserError: as `stored_card`, or the model cannot be read.
    """
    stored = stored_card(place)
    if stored is not None:
        return stored
    source = read_source(place, [])
    repo = f"OWNER/{source.folder.resolve().name}"
    record = record_of(source.model, source.provenance)
    return card(Facts(repo, "", record, _counted(source.model)))


def _counted(model: AnyModel) -> str:
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    return f"{parameters(model.params)}, {size / 1e6:.1f} MB"


def _said(written: Written) -> str:
    rest = f". Not in it: {written.unstored}" if written.unstored else ""
    return f"{written.arrays} arrays in the layout of {written.layout}{rest}"


def _fingerprints(model: AnyModel) -> Iterator[str]:
    """Of the model as `evaluate` may have computed it: its flags change the config."""
    told = ("spatial", "time") if isinstance(model, Model) else (None,)
    for dtype, embedding in product(("float32", "bfloat16"), told):
        changes = {"dtype": dtype}
        if embedding is not None:
            changes["noise_embedding"] = embedding
        yield fingerprint(
            model._replace(config=dataclasses.replace(model.config, **changes))
        )


def _shared(record: Record) -> Record:
    """A result without folders of the machine that it is from."""
    settings = dict(record["settings"])
    protocol, data = record["protocol"], str(settings.get("data"))
    if "/" in data:
        settings["data"] = Path(data).name
        protocol = protocol.replace(data, settings["data"])
    reference = record["fid_reference"]
    if "/" in reference:
        reference = Path(reference).name
    changes = {"protocol": protocol, "fid_reference": reference, "settings": settings}
    return {**record, **changes}
