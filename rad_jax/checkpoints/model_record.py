"""What stands beside weights: the JSON file that says what network they are of."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rad_jax.checkpoints.damage import short_reason
from rad_jax.checkpoints.model import AnyModel, LamaModel, Model
from rad_jax.diffusion.betas import ADM_STEPS
from rad_jax.diffusion.losses import LossConfig
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.files.from_dict import build
from rad_jax.models.config import UNetConfig
from rad_jax.models.lama_config import LamaConfig
from rad_jax.version import __version__

FORMAT = 1
NAMED_FORMAT = 2
"""Of a record that names its architecture; without a name it is a `UNet`. Also of one
whose base is of another process than ADM's.
"""

ADM_PROCESS = {"base_steps": ADM_STEPS, "timestep_scale": 1.0}
"""Of `ScheduleConfig`: what was taken for granted before there were others. What is
stored does not say it then, so that it is what it was, and older versions read it.
"""

LAMA = "lama"


def write_record(
    path: Path,
    model: AnyModel,
    provenance: Mapping[str, Any],
    **others: Any,
) -> None:
    """Writes the file, of a model but for its parameters.

    ``others`` are further blocks of it.

    Raises:
      OSError: it cannot be written.
    """
    record = record_of(model, provenance, **others)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def record_of(
    model: AnyModel, provenance: Mapping[str, Any], **others: Any
) -> dict[str, Any]:
    """What the file of a model holds, as `write_record` writes it."""
    record: dict[str, Any] = {
        "format": NAMED_FORMAT,
        "rad_jax": __version__,
        "model": dataclasses.asdict(model.config),
    }
    if isinstance(model, LamaModel):
        record["architecture"] = LAMA
    else:
        schedule = dataclasses.asdict(model.schedule)
        if ADM_PROCESS.items() <= schedule.items():
            record["format"] = FORMAT
            schedule = {x: schedule[x] for x in schedule if x not in ADM_PROCESS}
        record |= {"schedule": schedule, "parametrisation": model.parametrisation}
    return record | {"provenance": dict(provenance), **others}


def read_record(path: AnyPath, kind: str) -> dict[str, Any]:
    """Reads the file.

    Args:
      path: the file.
      kind: what its folder should be, for the message.

    Raises:
      UserError: there is no such file, or it is damaged, or written by a later version.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(
            f"{path.parent}: is no {kind}, it has no {path.name}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({short_reason(error)})") from error
    if not isinstance(record, dict) or "format" not in record:
        raise UserError(f"{path}: is damaged, or of another program")
    if record["format"] not in (FORMAT, NAMED_FORMAT):
        raise UserError(f"{path}: is of another version of rad_jax; update this one")
    return record


def described(path: AnyPath, record: Mapping[str, Any]) -> AnyModel:
    """The model of a record, with no parameters yet; ``path`` is its file.

    Raises:
      UserError: it is damaged, or of an unknown architecture.
    """
    architecture = record.get("architecture")
    if architecture not in (None, LAMA):
        raise UserError(
            f"{path}: is of an architecture that this version of rad_jax does not "
            "know; update it"
        )
    try:
        if architecture == LAMA:
            return LamaModel(build(LamaConfig, record["model"], "model."), {})
        config = build(UNetConfig, record["model"], "model.")
        schedule = build(ScheduleConfig, record["schedule"], "schedule.")
        parametrisation = LossConfig(record["parametrisation"]).parametrisation
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error})") from error
    return Model(config, schedule, parametrisation, {})


def check_free(
    folder: AnyPath, *, overwrite: bool, kind: str, record: str, others: tuple[str, ...]
) -> None:
    """Sees to it that a folder may be written here, before long work.

    Args:
      folder: to be written.
      overwrite: replace one of the same kind.
      kind: what it will be, for the message.
      record: name of its JSON file.
      others: names of what else it holds.

    Raises:
      UserError: something is there that must not be replaced. Without ``overwrite``
        that is anything; with it, anything but such a folder and nothing else.
    """
    if not folder.exists():
        return
    if not (folder / record).is_file():
        raise UserError(f"{folder}: exists, and is no {kind}; choose another")
    read_record(folder / record, kind)  # other programs have files of this name
    if more := {path.name for path in folder.iterdir()} - {record, *others}:
        raise UserError(
            f"{folder}: exists, and holds more than a {kind} ({min(more)}); choose "
            "another"
        )
    if not overwrite:
        raise UserError(f"{folder}: exists; choose another output or --overwrite")
