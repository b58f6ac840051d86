"""Conventions of the whole package, and the array types that carry them.

* Images are NHWC, float32 in [-1, 1]; at the edges (files, PyTorch) we convert.
* A mask is 1 in the hole (to be generated) and 0 where the image is known. Values
  between are allowed (soft masks).
* Time ``t`` counts noising steps: ``t = 0`` is the clean image, ``t = T1 + T2`` is pure
  noise everywhere. Phase 1, ``t`` in [0, T1], fills the hole with noise; phase 2,
  ``t`` in [T1, T1 + T2], fills the rest. Inpainting runs phase 1 backwards.
* ADM's own integer timestep ``k`` in [0, 999] means "k + 1 steps of DDPM noise"; a
  clean pixel is ``k = -1``, and levels between two steps are fractions.
* Functions on arrays take one image (h, w, c), and are batched by ``jax.vmap``, unless
  their signature has a leading ``b``.
"""

from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, UInt8

Image = Float[Array, "h w c"]
"""One image, or anything of its shape: noise, a prediction of it."""

Images = Float[Array, "b h w c"]
"""A batch of images."""

Mask = Float[Array, "h w"]
"""1 = hole, 0 = known; values between are soft."""

Masks = Float[Array, "b h w"]
"""A mask for each image of a batch."""

LogLevel = Float[Array, "h w 1"]
"""Log of the signal kept by each pixel, log alpha-bar <= 0; 0 is a clean pixel."""

LogLevels = Float[Array, "b h w 1"]
"""A level map for each image of a batch."""

Where = Bool[Array, "h w 1"]
"""A choice for each pixel."""

Output = Float[Array, "h w channels"]
"""What the network says of one image: c channels, or 2c with a learned variance."""

Outputs = Float[Array, "b h w channels"]
"""The same for a batch."""

Scalar = Float[Array, ""]
"""One float32 number."""

ScalarLike = Float[ArrayLike, ""]
"""The same, or one that JAX makes of a Python or NumPy number."""

Timesteps = Float[Array, "*shape"]
"""What a network is told of noise: ADM's timesteps, -1 (clean) to 999, fractions
allowed; of other bases what their `diffusion.clock` says.
"""

PRNGKey = Key[Array, ""]
"""One typed random key (``jax.random.key``)."""

PRNGKeys = Key[Array, " b"]
"""A key for each image of a batch."""

Labels = Int[Array, " b"]
"""A class label for each image of a batch."""

Bytes = UInt8[Array, "h w c"]
"""One 8-bit image."""
