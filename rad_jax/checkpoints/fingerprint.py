"""A short name of a network and its parameters."""

import hashlib

import jax
import numpy as np

from rad_jax.checkpoints.model import PARTS, AnyModel, parts
from rad_jax.checkpoints.model_record import ADM_PROCESS

_GRANTED = "".join(f", {name}={value!r}" for name, value in ADM_PROCESS.items())


def fingerprint(model: AnyModel) -> str:
    """Sixteen digits that tell a network and its parameters from others."""
    digest = hashlib.sha256()
    about = model._asdict()
    for name in ("params", *PARTS):
        about.pop(name, None)
    if not about.get("few_steps"):  # which there were not always
        about.pop("few_steps", None)
    text = repr(tuple(about.values()))
    digest.update(text.replace(_GRANTED, "").encode())
    for name, part in parts(model).items():
        if part is not model:
            digest.update(f"{name} {part._replace(params={})!r}".encode())
        for path, leaf in jax.tree.leaves_with_path(part.params):
            digest.update(jax.tree_util.keystr(path).encode())
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
