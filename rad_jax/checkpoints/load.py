"""Loads a model from its folder: a model folder, or the workdir of a training run."""

import dataclasses
from typing import Any, cast

import jax

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.checkpoints.hub import model_at, naming_hub
from rad_jax.checkpoints.model import (
    AnyModel,
    Codec,
    LamaModel,
    Model,
    parts,
    require_diffusion,
    with_params,
)
from rad_jax.checkpoints.model_folder import (
    RECORD,
    read_any_model,
    read_model,
    read_record,
    read_shapes,
)
from rad_jax.checkpoints.training_record import training_record
from rad_jax.config.experiment import Experiment, from_dict
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, bucket_errors
from rad_jax.models.apply import Params
from rad_jax.models.lora import adapted_params, partition, plain_params
from rad_jax.runtime.sharding import everywhere, local_mesh

UNTRAINED = "holds no finished checkpoint; train it first"
BASE = "base"
"""Where a run keeps the model that its adapters, or its autoencoder, are of."""


def load(
    folder: str | AnyPath,
    *,
    dtype: str | None = None,
    noise_embedding: str | None = None,
) -> AnyModel:
    """Loads a model onto all devices.

    Args:
      folder: a model folder, or the workdir of a training run: of its latest checkpoint
        the averaged parameters. Also one in a bucket, gs://..., or of the Hugging Face
        Hub, hf://owner/name@revision.
      dtype: what it computes in, "float32" or "bfloat16"; by default as it was trained.
      noise_embedding: `UNetConfig.noise_embedding`; the same. LaMa has none.

    Raises:
      UserError: the folder is neither, or nothing in it can be read; or there is no
        such dtype or embedding.
    """
    with naming_hub(folder):
        model, _ = read_folder(model_at(folder))
    model = _changed(model, folder, dtype, noise_embedding)
    # Once: whoever calls the network has them where they are needed.
    trees = {name: part.params for name, part in parts(model).items()}
    return with_params(model, jax.device_put(trees, everywhere(local_mesh())))


def load_shapes(
    folder: str | AnyPath,
    *,
    dtype: str | None = None,
    noise_embedding: str | None = None,
) -> AnyModel:
    """`load` with shapes as parameters, which are not read: to compile for other chips.

    Of a model folder they may be missing.

    Raises:
      UserError: as `load`.
    """
    with naming_hub(folder):
        place = model_at(folder)
        model = read_shapes(place) if is_model_folder(place) else _run_shapes(place)
    return _changed(model, folder, dtype, noise_embedding)


def _run_shapes(folder: AnyPath) -> Model:
    """Of a run, whose parameters are merged in float32."""
    with Checkpoints(folder) as checkpoints:
        record = checkpoints.latest(lambda step: checkpoints.records(step, ["config"]))
    if record is None:
        raise UserError(f"{folder}: {UNTRAINED}")
    experiment = from_dict(record["config"])
    model = model_of(experiment, {})
    shapes = {name: part.abstract_params() for name, part in parts(model).items()}
    return cast(Model, with_params(model, shapes))


def model_of(
    experiment: Experiment, params: Params, codec: Params | None = None
) -> Model:
    """What a run trains, with these parameters, and those of its autoencoder."""
    return Model(
        experiment.model,
        experiment.schedule,
        experiment.loss.parametrisation,
        params,
        experiment.few_steps,
        Codec(experiment.codec, codec or {}) if experiment.codec else None,
    )


def _changed(
    model: AnyModel,
    folder: str | AnyPath,
    dtype: str | None,
    noise_embedding: str | None,
) -> AnyModel:
    """The model as `load` is asked for it."""
    if noise_embedding is not None and isinstance(model, LamaModel):
        raise UserError(
            f"{folder}: is a LaMa, which is told no noise; leave noise_embedding out"
        )
    asked = {"dtype": dtype, "noise_embedding": noise_embedding}
    changes = {name: value for name, value in asked.items() if value is not None}
    return model._replace(config=dataclasses.replace(model.config, **changes))


def load_diffusion(folder: str | AnyPath, **options: str | None) -> Model:
    """`load` of a denoiser.

    Raises:
      UserError: as `load`, or it is no denoiser.
    """
    return require_diffusion(load(folder, **options), str(folder))


def read_folder(folder: AnyPath) -> tuple[AnyModel, dict[str, Any]]:
    """Reads a model, as ``load`` does, and where it comes from.

    Returns:
      The model, its parameters NumPy's or on the first device, and its provenance, as
      JSON stores it.
    """
    if is_model_folder(folder):
        return read_any_model(folder), read_record(folder).get("provenance", {})
    step, experiment, params = load_checkpoint(folder)
    model = model_of(experiment, params, read_codec(experiment, folder))
    run = {
        "run": folder.resolve().name,
        "step": step,
        "data": experiment.data.name,
        "training": training_record(experiment),
    }
    return model, run


def is_model_folder(folder: AnyPath) -> bool:
    """Whether it is a model folder, and not the workdir of a run.

    Raises:
      UserError: it is neither.
    """
    with bucket_errors(folder):
        if (folder / RECORD).is_file():
            return True
        if (folder / "checkpoints").is_dir():
            return False
    if folder.is_file():
        raise UserError(
            f"{folder}: is a file; to make a model folder of a checkpoint: "
            f"rad-jax convert --input {folder} --output FOLDER"
        )
    if not folder.exists():
        raise UserError(f"{folder}: no such folder; check the name")
    raise UserError(
        f"{folder}: is neither a model folder (it has no {RECORD}) nor the workdir of "
        "a training run (it holds no checkpoints)"
    )


def load_checkpoint(folder: AnyPath) -> tuple[int, Experiment, Params]:
    """The latest readable checkpoint: step, experiment and averaged parameters.

    Adapters are merged into the base that they were trained on.
    """
    step, experiment, trained = load_trained(folder)
    frozen = read_frozen(experiment, folder)
    params = plain_params(experiment.model, experiment.lora, trained, frozen)
    return step, experiment, params


def read_frozen(experiment: Experiment, folder: AnyPath) -> Params:
    """What is frozen of the base in a run's workdir; nothing without adapters.

    Raises:
      UserError: the base is missing or damaged.
    """
    if not experiment.lora.rank:
        return {}
    base = read_model(folder / BASE)
    _, frozen = partition(experiment.model, experiment.lora, base.params)
    return frozen


def read_codec(experiment: Experiment, folder: AnyPath) -> Params:
    """Parameters of the autoencoder of a run, in its workdir; nothing without one.

    Raises:
      UserError: the base that it is kept with is missing or damaged.
    """
    if experiment.codec is None:
        return {}
    return parts(read_model(folder / BASE))["codec"].params


def load_trained(folder: AnyPath) -> tuple[int, Experiment, Params]:
    """The same, of the parameters only those that trained."""
    with Checkpoints(folder) as checkpoints:

        def read(step: int) -> tuple[int, Experiment, Params]:
            config = checkpoints.records(step, ["config"])["config"]
            experiment = from_dict(config)
            shapes = adapted_params(experiment.model, experiment.lora)
            like, _ = partition(experiment.model, experiment.lora, shapes)
            return step, experiment, checkpoints.trees(step, {"ema": like})["ema"]

        found = checkpoints.latest(read)
    if found is None:
        raise UserError(f"{folder}: {UNTRAINED}")
    return found
