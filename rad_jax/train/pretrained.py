"""The network that a run starts from, and the base that adapters are trained on."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.load import BASE, load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.checkpoints.model_record import ADM_PROCESS
from rad_jax.config.experiment import Experiment
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.models.apply import Params
from rad_jax.models.config import LoRAConfig
from rad_jax.models.lora import combine, partition
from rad_jax.models.network import NetworkConfig, differences


def load_pretrained(experiment: Experiment) -> Model:
    """The model to start from; its network must be what the experiment says.

    Raises:
      UserError: there is no such model, it has classes, or naming all keys in which it
        differs.
    """
    model = load_diffusion(experiment.pretrained)
    if model.config.num_classes is not None:
        raise UserError(
            f"pretrained {experiment.pretrained}: has {model.config.num_classes} "
            "classes, and training with labels is not built yet; take a model without"
        )
    networks = model.config, experiment.model
    pairs: dict[str, tuple[Any, Any]] = {
        f"model.{name}": pair for name, pair in differences(*networks).items()
    }
    for name in ("kind", *ADM_PROCESS):
        both = model.schedule, experiment.schedule
        pairs[f"schedule.{name}"] = tuple(getattr(each, name) for each in both)
    pairs["loss.parametrisation"] = (
        model.parametrisation,
        experiment.loss.parametrisation,
    )
    different = [
        f"{name} is {theirs} there, {ours} here"
        for name, (theirs, ours) in pairs.items()
        if theirs != ours
    ]
    if different:
        raise UserError(
            f"pretrained {experiment.pretrained}: is another network than the config's "
            f"({'; '.join(different)}); change the config"
        )
    return model


def write_base(experiment: Experiment, workdir: AnyPath, model: Model) -> None:
    """Stores the network that a run's adapters are trained on, once: ``WORKDIR/base``.

    Its frozen kernels are stored in `LoRAConfig.base_dtype`.

    Raises:
      UserError: it cannot be written.
    """
    params = _stored(experiment.model, experiment.lora, model.params)
    write_model(
        workdir / BASE,
        model._replace(params=params),
        {"pretrained": Path(experiment.pretrained).name},
        overwrite=True,
    )


def _stored(config: NetworkConfig, lora: LoRAConfig, params: Params) -> dict[str, Any]:
    dtype = jnp.dtype(lora.base_dtype)

    def store(leaf: Any) -> np.ndarray:
        return np.asarray(leaf, dtype if leaf.ndim > 1 else None)

    trainable, frozen = partition(config, lora, params)
    return combine(trainable, jax.tree.map(store, frozen))
