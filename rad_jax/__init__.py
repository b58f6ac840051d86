"""RAD in JAX: region-aware diffusion models for image inpainting."""

from typing import TYPE_CHECKING, Any

from rad_jax.version import __version__

__all__ = ["__version__", "inpaint", "load", "with_adapters"]

if TYPE_CHECKING:
    from rad_jax.checkpoints.load import load
    from rad_jax.convert.peft import with_adapters
    from rad_jax.inference.inpaint import inpaint


def __getattr__(name: str) -> Any:
    """Imports a function at its first use: JAX takes a second to import."""
    if name in __all__:
        from rad_jax.checkpoints.load import load
        from rad_jax.convert.peft import with_adapters
        from rad_jax.inference.inpaint import inpaint

        return {"inpaint": inpaint, "load": load, "with_adapters": with_adapters}[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
