"""The network that a run starts from, and the base that adapters are trained on."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.hub import model_at, naming_hub
from rad_jax.checkpoints.load import BASE, load_diffusion, read_folder
from rad_jax.checkpoints.model import Model, require_diffusion
from rad_jax.checkpoints.model_folder import read_model, write_model
from rad_jax.checkpoints.model_record import ADM_PROCESS
from rad_jax.config.experiment import Experiment
from rad_jax.diffusion.distil_config import TAUGHT
from rad_jax.diffusion.options import OF_TEACHERS
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.models.apply import Params
from rad_jax.models.autoencoder_config import AutoencoderConfig
from rad_jax.models.config import LoRAConfig
from rad_jax.models.lora import combine, partition
from rad_jax.models.network import NetworkConfig, differences

TEACHER = "teacher"
"""Where a run keeps the model that it is distilled from."""


def load_pretrained(experiment: Experiment) -> Model:
    """The model to start from; its network must be what the experiment says.

    Raises:
      UserError: there is no such model, it has classes, or naming all keys in which it
        differs.
    """
    model = load_diffusion(experiment.pretrained)
    processes = ["kind", *ADM_PROCESS]
    if experiment.schedule.kind == "scaled_linear":
        processes.append("hole_betas")
    _check("pretrained", experiment.pretrained, model, experiment, processes)
    return model


def load_teacher(experiment: Experiment) -> Model:
    """The model that a student learns from; it must know all of the student's noise.

    Raises:
      UserError: as `load_pretrained`; or it was trained with other masks.
    """
    folder = experiment.distil.teacher
    with naming_hub(folder):
        found, provenance = read_folder(model_at(folder))
    model = require_diffusion(found, f"distil.teacher {folder}")
    names = [field.name for field in dataclasses.fields(ScheduleConfig)]
    masks = provenance.get("training", {}).get("mask", {})
    _check("distil.teacher", folder, model, experiment, names, masks)
    return model


def _check(
    key: str,
    folder: str,
    model: Model,
    experiment: Experiment,
    names: Sequence[str],
    masks: Mapping[str, Any] = {},
) -> None:
    """Raises UserError naming all in which a model is not what an experiment says."""
    if model.config.num_classes is not None:
        raise UserError(
            f"{key} {folder}: has {model.config.num_classes} "
            "classes, and training with labels is not built yet; take a model without"
        )
    networks = model.config, experiment.model
    pairs: dict[str, tuple[Any, Any]] = {
        f"model.{name}": pair for name, pair in differences(*networks).items()
    }
    for name in names:
        both = model.schedule, experiment.schedule
        pairs[f"schedule.{name}"] = tuple(getattr(each, name) for each in both)
    for name, theirs in masks.items():
        pairs[f"mask.{name}"] = theirs, getattr(experiment.mask, name, None)
    pairs |= _codec_pairs(model, experiment)
    ours = experiment.loss.parametrisation
    if experiment.distil.kind and model.parametrisation not in OF_TEACHERS:
        ours = OF_TEACHERS.get(ours, ours)
    pairs["loss.parametrisation"] = model.parametrisation, ours
    different = [
        f"{name} is {theirs} there, {ours} here"
        for name, (theirs, ours) in pairs.items()
        if theirs != ours
    ]
    if different:
        raise UserError(
            f"{key} {folder}: is another network than the config's "
            f"({'; '.join(different)}); change the config"
        )


def _codec_pairs(model: Model, experiment: Experiment) -> dict[str, tuple[Any, Any]]:
    """The keys of their autoencoders, with both values."""
    theirs, ours = model.codec and model.codec.config, experiment.codec
    if theirs is None or ours is None:
        named = [x and f"an autoencoder of kind {x.kind}" for x in (theirs, ours)]
        return {"codec": (named[0], named[1])}
    return {
        f"codec.{field.name}": tuple(getattr(x, field.name) for x in (theirs, ours))
        for field in dataclasses.fields(AutoencoderConfig)
        if field.name != "dtype"
    }


def write_base(experiment: Experiment, workdir: AnyPath, model: Model) -> None:
    """Stores the model that a run begins with, once: ``WORKDIR/base``.

    Adapters are trained on its network, whose frozen kernels are stored in
    `LoRAConfig.base_dtype`; its autoencoder makes latents.

    Raises:
      UserError: it cannot be written.
    """
    params = _stored(experiment.model, experiment.lora, model.params)
    write_model(
        workdir / BASE,
        model._replace(params=params),
        {"pretrained": Path(experiment.start_from).name},
        overwrite=True,
    )


def write_teacher(experiment: Experiment, workdir: AnyPath, model: Model) -> None:
    """Stores the model that a run is distilled from, once: ``WORKDIR/teacher``.

    Raises:
      UserError: it cannot be written.
    """
    provenance = {"teacher": Path(experiment.distil.teacher).name}
    write_model(workdir / TEACHER, model, provenance, overwrite=True)


def read_teacher(experiment: Experiment, workdir: AnyPath) -> Params:
    """Parameters of the teacher of a run; none where it needs none.

    Raises:
      UserError: it is missing or damaged.
    """
    if experiment.distil.kind not in TAUGHT:
        return {}
    return read_model(workdir / TEACHER).params


def _stored(config: NetworkConfig, lora: LoRAConfig, params: Params) -> dict[str, Any]:
    dtype = jnp.dtype(lora.base_dtype)

    def store(leaf: Any) -> np.ndarray:
        return np.asarray(leaf, dtype if leaf.ndim > 1 else None)

    trainable, frozen = partition(config, lora, params)
    return combine(trainable, jax.tree.map(store, frozen))
