"""A short name of a network and its parameters."""

import hashlib

import jax
import numpy as np

from rad_jax.checkpoints.model import AnyModel
from rad_jax.checkpoints.model_record import ADM_PROCESS

_GRANTED = "".join(f", {name}={value!r}" for name, value in ADM_PROCESS.items())


def fingerprint(model: AnyModel) -> str:
    """Sixteen digits that tell a network and its parameters from others."""
    digest = hashlib.sha256()
    parts = model._asdict()
    del parts["params"]
    if not parts.get("few_steps"):  # which there were not always
        parts.pop("few_steps", None)
    about = repr(tuple(parts.values()))
    digest.update(about.replace(_GRANTED, "").encode())
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
