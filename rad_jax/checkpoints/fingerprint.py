"""A short name of a network and its parameters."""

import hashlib

import jax
import numpy as np

from rad_jax.checkpoints.model import AnyModel

_ADM_PROCESS = ", base_steps=1000, timestep_scale=1.0"
"""Of `ScheduleConfig`; not said before there were others, and names are stored."""


def fingerprint(model: AnyModel) -> str:
    """Sixteen digits that tell a network and its parameters from others."""
    digest = hashlib.sha256()
    about = repr(model[:-1])  # all but its parameters
    digest.update(about.replace(_ADM_PROCESS, "").encode())
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
