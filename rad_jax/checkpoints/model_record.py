"""What stands beside weights: the JSON file that says what network they are of."""

import dataclasses
import itertools
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from rad_jax.checkpoints.damage import short_reason
from rad_jax.checkpoints.model import AnyModel, Codec, LamaModel, Model, Text
from rad_jax.diffusion.betas import ADM_KINDS, ADM_STEPS, KINDS
from rad_jax.diffusion.continuous import CONTINUOUS, SIGMAS
from rad_jax.diffusion.losses import LossConfig
from rad_jax.diffusion.options import PARAMETRISATIONS
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.files.from_dict import build, build_one_of
from rad_jax.models.autoencoder_config import (
    AUTOENCODERS,
    AutoencoderConfig,
    require_codec,
)
from rad_jax.models.clip_config import CLIPConfig, require_text
from rad_jax.models.lama_config import LamaConfig
from rad_jax.models.network import NetworkConfig
from rad_jax.version import __version__

FORMAT = 1
NAMED_FORMAT = 2
"""Of a record that names its architecture; without a name it is a `UNet`. Also of one
whose base is of another process than ADM's, or which was distilled for few steps: an
older version would run it as if it were not.
"""

ADM_PROCESS = {
    "base_steps": ADM_STEPS,
    "timestep_scale": 1.0,
    "sigmas": SIGMAS,
    "unit_input": False,
}
"""Of `ScheduleConfig`: what was taken for granted before there were others. What is
stored does not say it then, so that it is what it was, and older versions read it.
"""

LAMA = "lama"
ARCHITECTURES = tuple(kind.architecture for kind in get_args(NetworkConfig))

FEW_STEPS = "few_steps"
"""Key of `Model.few_steps`, of a model that has some."""

CODEC, TEXT = "codec", "text"
"""Keys of the configurations of `Model.codec` and `Model.text`, None without."""


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
    network = dataclasses.asdict(model.config)
    network.pop("architecture", None)  # which stands beside it
    record: dict[str, Any] = {
        "format": NAMED_FORMAT,
        "rad_jax": __version__,
        "model": network,
    }
    if isinstance(model, LamaModel):
        record["architecture"] = LAMA
    else:
        schedule = dataclasses.asdict(model.schedule)
        if _is_adm(model):
            record["format"] = FORMAT
            schedule = {x: schedule[x] for x in schedule if x not in ADM_PROCESS}
        else:
            record["architecture"] = model.config.architecture
            for name in (CODEC, TEXT):
                part = getattr(model, name)
                record[name] = dataclasses.asdict(part.config) if part else None
        record |= {"schedule": schedule, "parametrisation": model.parametrisation}
        if model.few_steps:
            record[FEW_STEPS] = list(model.few_steps)
    return record | {"provenance": dict(provenance), **others}


def _is_adm(model: Model) -> bool:
    """Whether format 1 can say what it is."""
    schedule = model.schedule
    granted = all(getattr(schedule, name) == x for name, x in ADM_PROCESS.items())
    return (
        granted
        and schedule.kind in ADM_KINDS
        and model.config.architecture == "adm"
        and model.parametrisation in ("eps", "v")
        and not model.few_steps
        and model.codec is None
        and model.text is None
    )


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
    _check_known(path, record)
    try:
        if architecture == LAMA:
            return LamaModel(build(LamaConfig, record["model"], "model."), {})
        kinds = get_args(NetworkConfig)
        config = build_one_of(kinds, record["model"], "model.", architecture)
        schedule = build(ScheduleConfig, record["schedule"], "schedule.")
        parametrisation = LossConfig(record["parametrisation"]).parametrisation
        few_steps = _few_steps(record, schedule.hole_steps)
        codec, text = _codec(record, config), _text(record, config)
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error})") from error
    return Model(config, schedule, parametrisation, {}, few_steps, codec, text)


def _codec(record: Mapping[str, Any], config: NetworkConfig) -> Codec | None:
    """The autoencoder of a record, without parameters.

    Raises:
      UserError: it does not fit the network.
    """
    if record.get(CODEC) is None:
        return None
    codec = Codec(build(AutoencoderConfig, record[CODEC], f"{CODEC}."), {})
    require_codec(config, codec.config)
    return codec


def _text(record: Mapping[str, Any], config: NetworkConfig) -> Text | None:
    """The encoder of texts of a record, without parameters.

    Raises:
      UserError: it does not fit the network.
    """
    if record.get(TEXT) is None:
        require_text(config, None)
        return None
    text = Text(build(CLIPConfig, record[TEXT], f"{TEXT}."), {})
    if record.get(CODEC) is None:
        raise UserError("it is told texts and has no codec; such bases are in latents")
    require_text(config, text.config)
    return text


def _few_steps(record: Mapping[str, Any], last: int) -> tuple[int, ...]:
    """The times at which a distilled model is asked; none of another.

    Raises:
      UserError: they do not fall from the last one to above 0.
    """
    if FEW_STEPS not in record:
        return ()
    times = record[FEW_STEPS]
    integers = isinstance(times, list) and all(type(x) is int for x in times)
    if (
        not integers
        or times[:1] != [last]
        or times[-1] < 1
        or any(a <= b for a, b in itertools.pairwise(times))
    ):
        raise UserError(
            f"{FEW_STEPS} is {reprlib.repr(times)}; it must be times that fall from "
            f"{last} to 1 or more"
        )
    return tuple(times)


def _check_known(path: AnyPath, record: Mapping[str, Any]) -> None:
    """Refuses a base of a kind that a later version has brought.

    Raises:
      UserError: naming the part of it.
    """

    def kind(block: str) -> Any:
        value = record.get(block)
        return value.get("kind") if isinstance(value, Mapping) else None

    parts = (
        ("architecture", record.get("architecture"), (*ARCHITECTURES, LAMA)),
        ("schedule.kind", kind("schedule"), (*KINDS, *CONTINUOUS)),
        (f"{CODEC}.kind", kind(CODEC), AUTOENCODERS),
        ("parametrisation", record.get("parametrisation"), PARAMETRISATIONS),
    )
    for name, value, known in parts:
        if value is not None and value not in known:
            raise UserError(
                f"{path}: {name} is {reprlib.repr(value)}, which this version of "
                "rad_jax does not know; update it"
            )


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
