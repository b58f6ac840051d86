"""What this machine needs to compile for chips that it does not have.

It imports no JAX, which reads the environment when it is imported.
"""

import importlib.util
import os
import sys
from pathlib import Path

from rad_jax.chips.slices import Slice
from rad_jax.errors import UserError

VARIABLES = {
    "JAX_PLATFORMS": "cpu",  # none of this machine's accelerators
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # which needs devices to read it back
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two processes may compile at once
    "TPU_SKIP_MDS_QUERY": "1",  # libtpu asks no server of Google's cloud
    "TPU_WORKER_HOSTNAMES": "localhost",  # nor complains that it knows neither of
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",  # these, which compiling does not need
}
"""Of the environment, where it does not say otherwise."""

PLUGINS = {"tpu": ("libtpu",), "cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin")}
"""The compilers' modules, one of which is needed."""


def set_up() -> None:
    """Sets the environment; to be called before JAX is imported."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    if "jax" in sys.modules:  # it has read the environment
        import jax

        if not jax.config.jax_platforms:  # pyright: ignore[reportAttributeAccessIssue]
            jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])


def require_compiler(where: Slice) -> None:
    """Refuses chips that there is no compiler for.

    Raises:
      UserError: it is not installed; the line says how to.
    """
    if not any(map(importlib.util.find_spec, PLUGINS[where.platform])):
        needed = "libtpu" if where.platform == "tpu" else "JAX's plug-in for CUDA"
        raise UserError(
            f"--topology {where.name} needs {needed}: "
            f"pip install 'rad-jax[{where.platform}]'"
        )


def description(where: Slice) -> str:
    """XLA's description of a GPU, in protobuf's text format."""
    return Path(__file__).with_name(f"{where.chip.name}.txtpb").read_text()
