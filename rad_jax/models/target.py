"""Which GPU a program is traced for: of this machine, unless somebody says another."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_CAPABILITY: ContextVar[int | None] = ContextVar("compute capability", default=None)


@contextlib.contextmanager
def tracing_for(capability: int) -> Iterator[None]:
    """Within it, programs are traced for another machine's chips.

    What JAX has traced before, it may not trace again: make the function within.

    Args:
      capability: as `compute_capability` will say; 0 for what is not NVIDIA's.
    """
    token = _CAPABILITY.set(capability)
    try:
        yield
    finally:
        _CAPABILITY.reset(token)


def compute_capability() -> int:
    """Of NVIDIA's GPUs, the number before the point; 0 without one."""
    capability = _CAPABILITY.get()
    if capability is not None:
        return capability
    device = jax.local_devices()[0]
    number = str(getattr(device, "compute_capability", "")).partition(".")[0]
    return int(number) if device.platform == "gpu" and number.isdecimal() else 0
