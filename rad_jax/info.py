"""``rad-jax info``: what a model is, or what this machine has."""

import importlib.metadata
import json
import math
import platform
from pathlib import Path

import jax

import rad_jax
from rad_jax.config import to_dict
from rad_jax.inpainting import load_checkpoint

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


def model(folder: Path) -> str:
    """Step, number of parameters and resolved config of a run's latest checkpoint.

    Raises:
      UserError: the folder holds no run, or no checkpoint that can be read.
    """
    step, experiment, params = load_checkpoint(folder)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    config = json.dumps(to_dict(experiment), indent=2)
    return f"{folder}: step {step}, {count:,} parameters\n{config}"
