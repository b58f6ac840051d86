"""What every generated picture must be, and what its file says of it."""

import numpy as np

from rad_jax.errors import UserError
from rad_jax.version import __version__

NON_FINITE = "train it longer, or compute in float32 (--dtype float32)"
"""What helps a model whose outputs are not finite."""


def require_finite(values: np.ndarray, name: object, helps: str = NON_FINITE) -> None:
    """Refuses NaN and infinities among generated pixels.

    Args:
      values: of one image, or of its hole.
      name: of the image, for the message.
      helps: what to do.

    Raises:
      UserError: naming it.
    """
    if not np.isfinite(values).all():
        raise UserError(f"{name}: non-finite output of the model; {helps}")


def png_text(sampler: str, seed: int, label: int | None) -> dict[str, str]:
    """Text chunks of a PNG file: version, sampler, seed, and the class if there is one.

    Args:
      sampler: how it was made, in one line.
      seed: of the whole command.
      label: the picture's class.
    """
    text = {
        "Software": f"rad_jax {__version__}",
        "Sampler": sampler,
        "Seed": str(seed),
    }
    return text if label is None else {**text, "Class": str(label)}
