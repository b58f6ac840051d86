"""Convolutions of large networks on a CPU: by Eigen, not by XLA's YNN library."""

import functools

import jax
from jax.errors import JaxRuntimeError

EIGEN = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,"
    "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
}
"""What YNN still does. It is XLA's option, which other versions may not have."""

LARGE = 128
"""Channels of a network from which on Eigen is the quicker, docs/benchmarks.md."""


def convolution_options(channels: int) -> dict[str, str] | None:
    """What ``jax.jit`` is to be given as ``compiler_options``.

    Args:
      channels: of the network at full resolution.

    Returns:
      None for small networks, on other devices, and where XLA refuses the option.
    """
    if channels < LARGE or jax.default_backend() != "cpu":
        return None
    return EIGEN if _takes(tuple(EIGEN.items())) else None


@functools.cache
def _takes(options: tuple[tuple[str, str], ...]) -> bool:
    """Whether XLA compiles a program with them."""
    try:
        nothing = jax.jit(lambda: 0, compiler_options=dict(options))
        nothing.lower().compile()
    except (JaxRuntimeError, ValueError):
        return False
    return True
