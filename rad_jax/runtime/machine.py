"""What this machine has: versions and devices."""

import importlib.metadata
import platform

import jax

from rad_jax.version import __version__

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets")


def versions() -> dict[str, str]:
    """Of this package and of JAX, to stand beside numbers."""
    return {"rad_jax": __version__, "jax": jax.__version__}


def machine() -> str:
    """Versions and devices, a line each."""
    lines = [f"rad_jax {__version__}", f"python {platform.python_version()}"]
    lines += [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    lines += [
        f"device {device.id}: {device.platform}, {device.device_kind}"
        for device in jax.devices()
    ]
    return "\n".join(lines)
