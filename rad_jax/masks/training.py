"""What is a hole in training: Perlin masks (RAD), or others to compare them with.

Everything runs on the device from a key, with fixed shapes and no callback, so that a
training step draws its own masks inside ``jit``.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from rad_jax.errors import UserError
from rad_jax.masks.perlin import perlin_mask, soft_mask
from rad_jax.typing import Mask, PRNGKey

KINDS = ("perlin", "box", "mixed", "full")

MAX_BLUR = 32.0
"""Pixels; the blur's kernel is unrolled, and takes six of them along each axis."""

# Of LaMa's thick strokes on its canvas of 256 pixels; bounds are inclusive.
_CANVAS = 256
_STROKES = 6
_SEGMENTS = 5
_WIDTH = (5, 104)
_LENGTH = (10, 209)


@dataclasses.dataclass(frozen=True)
class MaskConfig:
    """What is a hole in training.

    Attributes:
      kind: "perlin" (RAD); "box", `box_mask`; "mixed", `mixed_mask`; or "full": the
        whole image, which in phase 1 is plain DDPM.
      blur: standard deviation, in pixels, of a Gaussian that makes the edges of the
        holes soft; 0 for none. The network is then conditioned on a level per pixel.

    Raises:
      UserError: naming the key whose value makes no masks.
    """

    kind: str = "perlin"
    blur: float = 0.0

    def __post_init__(self):
        """Refuses what makes no masks."""
        if self.kind not in KINDS:
            raise UserError(
                f"mask.kind is {self.kind!r}; use one of {', '.join(KINDS)}"
            )
        if not 0 <= self.blur <= MAX_BLUR:
            raise UserError(
                f"mask.blur is {self.blur}; it must lie in [0, {MAX_BLUR:g}] pixels"
            )
        if self.blur and self.kind == "full":
            raise UserError("mask.blur softens edges, and mask.kind 'full' has none")


def training_mask(config: MaskConfig, key: PRNGKey, height: int, width: int) -> Mask:
    """Draws one mask of the configured kind, values in [0, 1] (0 or 1 without blur)."""
    if config.kind == "full":
        return jnp.ones((height, width))
    draw = {"perlin": perlin_mask, "box": box_mask, "mixed": mixed_mask}[config.kind]
    mask = draw(key, height, width)
    return soft_mask(mask, config.blur) if config.blur else mask


def mixed_mask(key: PRNGKey, height: int, width: int) -> Mask:
    """Draws one of Perlin, box, all but a box ("extreme") and strokes, at equal odds.

    Batched, all four are drawn and one is kept; a mask costs little beside the network.
    """
    pick_key, mask_key = jax.random.split(key)
    kinds = [
        functools.partial(draw, height=height, width=width)
        for draw in (perlin_mask, box_mask, extreme_mask, stroke_mask)
    ]
    return lax.switch(jax.random.randint(pick_key, (), 0, len(kinds)), kinds, mask_key)


def box_mask(key: PRNGKey, height: int, width: int) -> Mask:
    """Draws a box of half the height and width, anywhere, as "box" of the evaluation.

    Halves are rounded down; every place inside the image is as likely as any other.
    """

    def inside(key: PRNGKey, size: int) -> Bool[Array, " n"]:
        half = size // 2
        after = jnp.arange(size) - jax.random.randint(key, (), 0, size - half + 1)
        return (after >= 0) & (after < half)

    rows_key, columns_key = jax.random.split(key)
    rows, columns = inside(rows_key, height), inside(columns_key, width)
    return (rows[:, None] & columns[None, :]).astype(jnp.float32)


def extreme_mask(key: PRNGKey, height: int, width: int) -> Mask:
    """Draws a mask of all but a box: the complement of `box_mask`."""
    return 1 - box_mask(key, height, width)


def stroke_mask(key: PRNGKey, height: int, width: int) -> Mask:
    """Draws strokes as in "wide" of the evaluation, where boxes are drawn too.

    1 to 6 strokes of 1 to 5 segments; see `masks.evaluation` for where these go.
    Nothing is drawn again: a hole may be larger than half the image.
    """
    scale = max(height, width) / _CANVAS
    count_key, key = jax.random.split(key)
    count = jax.random.randint(count_key, (), 1, _STROKES + 1)
    canvas = np.array([width, height]) / scale  # x, y, as in all points
    draw = functools.partial(_stroke, canvas=canvas)
    starts, ends, widths, drawn = jax.vmap(draw)(
        jax.random.split(key, _STROKES), jnp.arange(_STROKES)
    )
    drawn &= (jnp.arange(_STROKES) < count)[:, None]
    # Pixel centres stay on themselves: theirs is half a pixel from the border.
    points = (jnp.stack([starts, ends], -2) + 0.5) * scale - 0.5
    # As `evaluation.stroke_reach`.
    reach = jnp.maximum(0.5, ((widths + 1) // 2 + 0.3) * scale)
    points, reach = points.reshape(-1, 2, 2), reach.reshape(-1)
    reach = jnp.where(drawn.reshape(-1), reach, -1.0)

    def mark(i, hole):
        return hole | (_distance(points[i], height, width) <= reach[i])

    hole = jnp.zeros((height, width), bool)
    return lax.fori_loop(0, len(reach), mark, hole).astype(jnp.float32)


def _stroke(key: PRNGKey, number, canvas: np.ndarray):
    """One stroke: starts and ends (5, 2), widths (5,), and which segments there are."""
    start_key, count_key, angle_key, length_key, width_key = jax.random.split(key, 5)
    shape = (_SEGMENTS,)
    start = jnp.floor(jax.random.uniform(start_key, (2,)) * np.float32(canvas))
    count = jax.random.randint(count_key, (), 1, _SEGMENTS + 1)
    angle = 0.01 + jax.random.randint(angle_key, shape, 0, 4)
    angle = jnp.where(number % 2 == 0, -angle, angle)
    length = jax.random.randint(length_key, shape, _LENGTH[0], _LENGTH[1] + 1)
    widths = jax.random.randint(width_key, shape, _WIDTH[0], _WIDTH[1] + 1)
    ways = length[:, None] * jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1)

    def go(point, way):
        end = jnp.clip(jnp.trunc(point + way), 0, np.float32(canvas))
        return end, (point, end)

    _, (starts, ends) = lax.scan(go, start, ways)
    return starts, ends, widths, jnp.arange(_SEGMENTS) < count


def _distance(ends: Float[Array, "2 2"], height: int, width: int) -> Mask:
    """Of every pixel's centre from the segment between two points (x, y), in pixels."""
    (x0, y0), (dx, dy) = ends[0], ends[1] - ends[0]
    x, y = jnp.arange(width)[None, :] - x0, jnp.arange(height)[:, None] - y0
    along = jnp.clip((x * dx + y * dy) / jnp.maximum(dx * dx + dy * dy, 1e-6), 0, 1)
    return jnp.hypot(x - along * dx, y - along * dy)
