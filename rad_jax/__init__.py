"""RAD in JAX: region-aware diffusion models for image inpainting."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["inpaint", "load"]

if TYPE_CHECKING:
    from rad_jax.inpainting import inpaint, load


def __getattr__(name: str) -> Any:
    """Imports the two functions at their first use: JAX takes a second to import."""
    if name in __all__:
        from rad_jax import inpainting

        return getattr(inpainting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
