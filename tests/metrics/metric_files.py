"""Numbers of the reference programs for weights that follow a rule (tests/golden).

The rule: standard normal numbers seeded by the crc32 of the name, scaled by kind.
"""

import hashlib
import json
import math
import zlib

import jax.numpy as jnp
import numpy as np

from rad_jax.metrics.lpips import CONVS
from rad_jax.metrics.weights import WeightFile
from rad_jax.weight_files.write import write_torch
from tests.golden_files import FOLDER

GOLDEN = np.load(FOLDER / "metrics.npz")
URL = "https://example.org/"


def inception_shapes():
    return json.loads((FOLDER / "metrics.json").read_text())["inception_state_dict"]


def images(name):
    """Golden images as ours: NHWC, float32 in [-1, 1]."""
    return jnp.asarray(np.moveaxis(GOLDEN[name], 1, -1))


def weight(name, shape):
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    z = generator.standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        return z * np.float32(math.sqrt(2 / math.prod(shape[1:])))
    if name.endswith("running_var"):
        return np.float32(1) + np.float32(0.2) * np.abs(z)
    if name.endswith("weight"):
        return np.float32(1) + np.float32(0.1) * z
    return np.float32(0.1) * z


def backbone(net):
    """State dict of torchvision's file, the classifier cut to one number."""
    state, channels = {}, 3
    for conv in CONVS[net]:
        key = f"features.{conv.index}"
        shape = (conv.channels, channels, conv.size, conv.size)
        state[f"{key}.weight"] = weight(f"{net}.{key}.weight", shape)
        state[f"{key}.bias"] = weight(f"{net}.{key}.bias", (conv.channels,))
        channels = conv.channels
    return state | {"classifier.1.weight": np.zeros((1, 1), np.float32)}


def heads(net):
    """State dict of the file of LPIPS: the published numbers."""
    prefix = f"lpips_head_{net}_"
    return {
        key.removeprefix(prefix): GOLDEN[key]
        for key in GOLDEN.files
        if key.startswith(prefix)
    }


def inception():
    """State dict of pytorch-fid's file."""
    return {
        key: weight(f"inception.{key}", tuple(shape))
        if shape
        else np.zeros((), np.int64)  # a count of training steps
        for key, shape in inception_shapes().items()
    }


def publish(folder, state):
    """Writes a file of weights; what its publisher says of it."""
    path = folder / "weights.pth"
    write_torch(path, state)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(folder / f"weights-{checksum[:8]}.pth")
    return WeightFile(path.name, checksum[:8], URL + path.name)
