"""``rad-jax info``: what a model is, or what this machine has."""

import importlib.metadata
import json
import math
import platform
from typing import Any

import jax

import rad_jax
from rad_jax.checkpoints.load import is_model_folder, load_checkpoint
from rad_jax.checkpoints.model_folder import read_model, read_record
from rad_jax.config import to_dict
from rad_jax.files.bucket import AnyPath

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets")


def machine() -> str:
    """Versions and devices, a line each."""
    lines = [f"rad_jax {rad_jax.__version__}", f"python {platform.python_version()}"]
    lines += [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    lines += [
        f"device {device.id}: {device.platform}, {device.device_kind}"
        for device in jax.devices()
    ]
    return "\n".join(lines)


def model(folder: AnyPath) -> str:
    """What a folder holds, whose arrays are all read.

    Of a model folder the architecture, schedule and provenance, of a run the step of
    its latest checkpoint and the resolved config; of both the number of parameters.

    Raises:
      UserError: the folder is neither, or cannot be read.
    """
    if is_model_folder(folder):
        record = read_record(folder)
        *_, params = read_model(folder)
        text = f"model folder, {_parameters(params)}"
        names = ("parametrisation", "model", "schedule", "provenance")
        shown = {name: record[name] for name in names if name in record}
    else:
        step, experiment, params = load_checkpoint(folder)
        text = f"step {step}, {_parameters(params)}"
        shown = to_dict(experiment)
    return f"{folder}: {text}\n{json.dumps(shown, indent=2)}"


def _parameters(params: Any) -> str:
    leaves = jax.tree.leaves(params)
    count = sum(math.prod(leaf.shape) for leaf in leaves)
    types = "/".join(sorted({str(leaf.dtype) for leaf in leaves}))
    return f"{count:,} parameters ({types})"
