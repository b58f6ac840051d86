"""RAD in JAX: region-aware diffusion models for image inpainting."""

__version__ = "0.1.0"
