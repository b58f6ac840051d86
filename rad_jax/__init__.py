"""RAD in JAX: region-aware diffusion models for image inpainting."""

from typing import TYPE_CHECKING, Any

from rad_jax.version import __version__

__all__ = ["Inpainter", "__version__", "inpaint", "load", "with_adapters"]

if TYPE_CHECKING:
    from rad_jax.checkpoints.load import load
    from rad_jax.convert.peft import with_adapters
    from rad_jax.inference.inpaint import inpaint
    from rad_jax.inference.inpainter import Inpainter


def __getattr__(name: str) -> Any:
    """Imports a function at its first use: JAX takes a second to import."""
    if name in __all__:
        from rad_jax.checkpoints.load import load
        from rad_jax.convert.peft import with_adapters
        from rad_jax.inference.inpaint import inpaint
        from rad_jax.inference.inpainter import Inpainter

        found = (Inpainter, inpaint, load, with_adapters)
        return {each.__name__: each for each in found}[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted(__all__)
