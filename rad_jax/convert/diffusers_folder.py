"""Folders of diffusers: of a `UNet2DModel`, or of a pipeline that has one.

Their JSON files say what shapes do not tell. They are read without trust, like weights:
a value that is missing, of a wrong type or of another network is told in a line.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rad_jax.convert.choices import Choices
from rad_jax.convert.diffusers import config_from_diffusers
from rad_jax.convert.infer import OPENAI, Facts, facts_of
from rad_jax.convert.presets import choices_of, mismatch, schedule_of
from rad_jax.diffusion.betas import ADM_STEPS
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.files.from_dict import build
from rad_jax.models.config import UNetConfig
from rad_jax.weight_files.lazy_array import MappedArrays
from rad_jax.weight_files.network import Network

CONFIG = "config.json"
SCHEDULER = Path("scheduler", "scheduler_config.json")
STEM = "diffusion_pytorch_model"
STEMS = {".safetensors": STEM, ".bin": STEM}
MAX_BYTES = 2**20

SCHEDULES = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
"""Ours by diffusers' names."""

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}


OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Of the layers of an attention, before version 0.18."""

OLD_KEYS = re.compile(rf"(\.attentions\.\d+\.)({'|'.join(OLD_NAMES)})(?=\.)")


class Described(NamedTuple):
    """What is known of a network before its arrays are read.

    Attributes:
      config: its architecture.
      choices: all that shapes do not tell.
      schedule: of the noise.
      parametrisation: what it predicts.
    """

    config: UNetConfig
    choices: Choices
    schedule: ScheduleConfig
    parametrisation: str


@dataclasses.dataclass(frozen=True)
class _Scheduler:
    """What is read of a scheduler's configuration; named as there."""

    beta_schedule: str
    num_train_timesteps: int
    beta_start: float
    beta_end: float
    prediction_type: str = "epsilon"
    trained_betas: None = None
    rescale_betas_zero_snr: bool = False


def unet_folder(source: AnyPath) -> AnyPath | None:
    """The folder of the U-Net in a folder of diffusers, or None if it is none."""
    for folder in (source, source / "unet"):
        if (folder / CONFIG).is_file() and any(folder.glob(f"{STEM}*")):
            return folder
    return None


def describe(
    source: Path, choices: Choices
) -> tuple[Path, Callable[[str, Facts], Described]]:
    """The file of weights in a folder of diffusers, and what says the network.

    Args:
      source: a folder that has a `unet_folder`.
      choices: made by hand; they must not contradict the folder.

    Returns:
      The file, or the index or the first of the files; and a function of the layout of
      the weights and the facts that their shapes tell.

    Raises:
      UserError: naming the file that is missing or says something unusable. So does
        the function.
    """
    folder = Path(unet_folder(source) or source)
    settings = read_json(folder / CONFIG)
    name = settings.get("_class_name", "UNet2DModel")
    if type(name) is not str or "UNet2D" not in name or "Condition" in name:
        raise UserError(f"{folder / CONFIG}: is of another network than UNet2DModel")
    if settings.get("sample_size") is None:
        if choices.image_size is None:
            raise UserError(f"{folder / CONFIG}: has no sample_size; give --image_size")
        settings = {**settings, "sample_size": choices.image_size}
    try:
        config = config_from_diffusers(settings)
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from error
    schedule, parametrisation = _noise(source, folder, choices)
    completed = choices_of(config, schedule)
    _check_choices(folder / CONFIG, choices, completed)

    def describe_as(layout: str, facts: Facts) -> Described:
        if layout == OPENAI:
            raise UserError(f"has guided-diffusion's keys; {CONFIG} is of diffusers")
        if wrong := mismatch(facts, facts_of(config), CONFIG):
            raise UserError(f"does not match {CONFIG}: {wrong}")
        # q, k and v stand apart there, and go into either order as they should.
        order = choices.use_new_attention_order
        if order is None:
            return Described(config, completed, schedule, parametrisation)
        return Described(
            dataclasses.replace(config, use_new_attention_order=order),
            dataclasses.replace(completed, use_new_attention_order=order),
            schedule,
            parametrisation,
        )

    return weights_in(folder), describe_as


def read_json(path: Path) -> Mapping[str, Any]:
    """A configuration of diffusers.

    Raises:
      UserError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        content = json.loads(data) if len(data) <= MAX_BYTES else None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError):
        content = None
    if type(content) is not dict:
        raise UserError(f"{path}: is no configuration of diffusers; get it again")
    return content


def _noise(source: Path, folder: Path, choices: Choices) -> tuple[ScheduleConfig, str]:
    """Noise schedule and parametrisation, of the scheduler or by hand."""
    places = (source / SCHEDULER, folder.parent / SCHEDULER)
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        if choices.noise_schedule is None:
            raise UserError(f"{source}: has no {SCHEDULER}; give --noise_schedule")
        return schedule_of(choices), "eps"
    kind, _, parametrisation = read_scheduler(path, SCHEDULES)
    return ScheduleConfig(kind=kind), parametrisation


def read_scheduler(
    path: Path, schedules: Mapping[str, str]
) -> tuple[str, tuple[float, float], str]:
    """Of a scheduler's configuration kind and ends of its betas, and the prediction.

    Args:
      path: the file.
      schedules: kinds that are supported, by diffusers' names.

    Raises:
      UserError: it is no such file, or of another process.
    """
    found = read_json(path)
    names = [field.name for field in dataclasses.fields(_Scheduler)]
    try:
        given = {name: found[name] for name in names if name in found}
        scheduler = build(_Scheduler, given, "")
        kind = _schedule_of(scheduler, schedules)
        parametrisation = _prediction_of(scheduler)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return kind, (scheduler.beta_start, scheduler.beta_end), parametrisation


def _schedule_of(scheduler: _Scheduler, schedules: Mapping[str, str]) -> str:
    kind = schedules.get(scheduler.beta_schedule)
    if kind is None:
        raise UserError(
            f"beta_schedule is {scheduler.beta_schedule[:80]!r}; only "
            f"{' and '.join(schedules)} are supported"
        )
    if scheduler.num_train_timesteps != ADM_STEPS:
        raise UserError(
            f"num_train_timesteps is {scheduler.num_train_timesteps}; only {ADM_STEPS} "
            "are supported"
        )
    betas = scheduler.beta_start, scheduler.beta_end
    if kind == "linear" and betas != ScheduleConfig.hole_betas:
        raise UserError(
            f"beta_start and beta_end are {betas}; only {ScheduleConfig.hole_betas} "
            "are supported"
        )
    if scheduler.rescale_betas_zero_snr:
        raise UserError("rescale_betas_zero_snr is not supported")
    return kind


def _prediction_of(scheduler: _Scheduler) -> str:
    if scheduler.prediction_type not in PREDICTIONS:
        raise UserError(
            f"prediction_type is {scheduler.prediction_type[:80]!r}; only "
            f"{' and '.join(PREDICTIONS)} are supported"
        )
    return PREDICTIONS[scheduler.prediction_type]


def _check_choices(path: Path, choices: Choices, completed: Choices) -> None:
    """Refuses what is given by hand and is otherwise in the folder."""
    for name, value in choices.made().items():
        told = getattr(completed, name)
        if (
            name in ("num_heads", "num_heads_upsample")
            and completed.num_head_channels != -1
        ):
            told = f"num_head_channels is {completed.num_head_channels}"
        if name != "use_new_attention_order" and value != told:
            raise UserError(f"--{name} is {value}, but {told} in {path.parent}")


def with_new_names(network: Network) -> Network:
    """The network of a `UNet2DModel`, its attention named as diffusers does today."""

    def new(key: str) -> str:
        return OLD_KEYS.sub(lambda match: match[1] + OLD_NAMES[match[2]], key)

    arrays = network.arrays
    if len({new(key) for key in arrays}) < len(arrays):
        return network  # which does not fit either way
    spans = {new(key): span for key, span in arrays.spans.items()}
    paths = {new(key): path for key, path in arrays.paths.items()}
    return network._replace(arrays=MappedArrays(spans, paths))


def weights_in(folder: Path, stems: Mapping[str, str] = STEMS) -> Path:
    """The weights, in float32 if there are such; or the index or first of shards.

    Args:
      folder: of the network.
      stems: names of files of weights, by their suffix.

    Raises:
      UserError: there is none.
    """
    for variant in ("", ".fp16"):
        for suffix, stem in stems.items():
            index = f"{stem}{suffix}.index{variant}.json"
            first = f"{stem}{variant}-00001-of-*{suffix}"
            for name in (f"{stem}{variant}{suffix}", index, first):
                for path in sorted(folder.glob(name)):
                    return path
    names = " and no ".join(f"{stem}{suffix}" for suffix, stem in stems.items())
    raise UserError(f"{folder}: has no {names}")
