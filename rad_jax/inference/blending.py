"""Decoded images into the holes of pictures whose known pixels stay as they are.

What is decoded of latents differs from what was encoded, also where the picture is
known: pasted as it is, the hole has an edge. Of that difference, known beside the hole
alone, `feathered` and `seamless` take a continuation off the hole as well. What stood
in the hole is never used, and known pixels are those of the picture, bit for bit.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rad_jax.diffusion.harmonic import harmonic, spread
from rad_jax.typing import Images, Masks


def pasted(images: Images, decoded: Images, masks: Masks) -> Images:
    """The decoded images in the hole, the pictures elsewhere.

    Args:
      images: (b, h, w, c) in [-1, 1]; the hole may hold anything.
      decoded: the same size, finite.
      masks: (b, h, w); where one is above 0 is hole.
    """
    return jnp.where(masks[..., None] > 0, decoded, images)


def feathered(images: Images, decoded: Images, masks: Masks, width: int) -> Images:
    """The same without an edge, over so many pixels inside the hole.

    Beside the hole's border the difference is taken off, continued (`spread`), and less
    and less farther in: the known pixels have weight 1 and the rest of the hole 0.

    Args:
      images: as of `pasted`.
      decoded: as of `pasted`.
      masks: as of `pasted`.
      width: pixels over which the weight falls; 0 is `pasted`.
    """
    seen = masks[..., None] <= 0
    weights = nearness(masks, width)[..., None]
    difference = spread(jnp.where(seen, images - decoded, 0), seen)
    return pasted(images, decoded + weights * difference, masks)


def seamless(images: Images, decoded: Images, masks: Masks) -> Images:
    """The same with the decoded images' gradients in the hole.

    Poisson blending (Perez, Gangnet and Blake 2003): in the hole the Laplacian is that
    of the decoded image, at its border are the known pixels. So what is added is the
    `harmonic` continuation of the difference: all of a constant one, and no edge is
    left. Values may leave [-1, 1] where the decoded ones come near.

    Args:
      images: as of `pasted`.
      decoded: as of `pasted`.
      masks: as of `pasted`.
    """
    seen = masks[..., None] <= 0
    difference = harmonic(jnp.where(seen, images - decoded, 0), seen)
    return pasted(images, decoded + difference, masks)


def nearness(masks: Masks, width: int) -> Float[Array, "b h w"]:
    """How near each pixel is to a known one, from 1 (known) to 0.

    Linear in the larger of both axes' distances, and 0 farther than `width` pixels.
    """
    known = (masks <= 0).astype(jnp.float32)

    def grow(_, state: tuple[Array, Array]) -> tuple[Array, Array]:
        near, total = state
        near = jax.lax.reduce_window(
            near, 0.0, jax.lax.max, (1, 3, 3), (1, 1, 1), "SAME"
        )
        return near, total + near

    # A pixel at distance d is reached by all growths from number d on.
    _, total = jax.lax.fori_loop(0, width, grow, (known, known))
    return jnp.where(known > 0, 1.0, total / (width + 1))
