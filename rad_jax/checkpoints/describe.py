"""A few lines on what a model folder or a training run holds."""

import json
import math
from typing import Any

import jax

from rad_jax.checkpoints.hub import model_at, naming_hub
from rad_jax.checkpoints.load import is_model_folder, load_checkpoint
from rad_jax.checkpoints.model import AnyModel, Model, parts
from rad_jax.checkpoints.model_folder import read_any_model, read_record
from rad_jax.config.experiment import to_dict
from rad_jax.files.bucket import AnyPath

STATISTICS = ("mean", "var")
"""What batch normalisation has kept: no parameters, since nothing trains them."""


SHOWN = (
    *("architecture", "parametrisation", "model", "schedule", "codec"),
    *("text", "provenance"),
)
"""Blocks of a model's record."""


def describe(place: str | AnyPath) -> str:
    """What a folder holds; all its arrays are read.

    Of a model folder the architecture, schedule and provenance, and for which steps it
    was distilled if it was; of a run the step of its latest checkpoint and the resolved
    config; of both the number of parameters.

    Raises:
      UserError: the folder is neither, or cannot be read.
    """
    folder = model_at(place)
    with naming_hub(place):
        if is_model_folder(folder):
            record = read_record(folder)
            model = read_any_model(folder)
            text = f"model folder, {parameters(model.params)}{_others(model)}"
            shown = {name: record[name] for name in SHOWN if name in record}
        else:
            step, experiment, params = load_checkpoint(folder)
            text = f"step {step}, {parameters(params)}"
            shown = to_dict(experiment)
    return f"{place}: {text}\n{json.dumps(shown, indent=2)}"


def _others(model: AnyModel) -> str:
    """Lines on its other parts, and on the times at which it is asked if distilled."""
    lines = [
        f"\n{name}: {parameters(part.params)}"
        for name, part in parts(model).items()
        if part is not model
    ]
    if isinstance(model, Model) and model.few_steps:
        times = ", ".join(map(str, model.few_steps))
        few = f"1 .. {len(model.few_steps)} steps, at times {times}"
        lines.append(f"\ndistilled for {few}")
    return "".join(lines)


def parameters(params: Any) -> str:
    """How many there are, and of which types."""
    leaves = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(params)
        if path[-1].key not in STATISTICS
    ]
    count = sum(math.prod(leaf.shape) for leaf in leaves)
    types = "/".join(sorted({str(leaf.dtype) for leaf in leaves}))
    return f"{count:,} parameters ({types})"
