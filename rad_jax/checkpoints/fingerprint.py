"""A short name of a network and its parameters."""

import hashlib

import jax
import numpy as np

from rad_jax.checkpoints.model import AnyModel


def fingerprint(model: AnyModel) -> str:
    """Sixteen digits that tell a network and its parameters from others."""
    digest = hashlib.sha256()
    digest.update(repr(model[:-1]).encode())  # all but its parameters
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
