"""Betas of discrete processes: of DDPM (linear), iDDPM (cosine), latent diffusion."""

import numpy as np

ADM_KINDS = ("linear", "cosine")
"""Of ADM and iDDPM, whose ends follow from the number of steps."""

KINDS = (*ADM_KINDS, "scaled_linear")

ADM_STEPS = 1000
"""Of the process of ADM's networks."""

STABLE_DIFFUSION = (0.00085, 0.012)
LATENT_VQ = (0.0015, 0.0195)
LATENT_CHURCHES = (0.0015, 0.0155)
"""First and last of the scaled linear betas of Stable Diffusion, and of latent
diffusion's faces and bedrooms, and its churches; of 1000 steps.
"""


def make_betas(kind: str, steps: int, ends: tuple[float, float]) -> np.ndarray:
    """Betas of one of `KINDS`, float64 (steps,); ``ends`` are not of cosine ones."""
    if kind == "cosine":
        return cosine_betas(steps)
    make = scaled_linear_betas if kind == "scaled_linear" else linear_betas
    return make(steps, *ends)


def scaled_ends(steps: int) -> tuple[float, float]:
    """First and last linear beta that leave as much signal as DDPM's 1000.

    As in improved-diffusion, ``get_named_beta_schedule``.
    """
    scale = ADM_STEPS / steps
    return scale * 1e-4, scale * 0.02


def linear_betas(steps: int, start: float, end: float) -> np.ndarray:
    """Linear betas, float64 (steps,), as in DDPM."""
    return np.linspace(start, end, steps, dtype=np.float64)


def scaled_linear_betas(steps: int, start: float, end: float) -> np.ndarray:
    """Betas whose roots are linear, float64 (steps,), as in latent diffusion.

    CompVis's programs call them "linear".
    """
    return np.linspace(start**0.5, end**0.5, steps, dtype=np.float64) ** 2


def cosine_betas(steps: int) -> np.ndarray:
    """Cosine betas, float64 (steps,), capped at 0.999 (iDDPM eq. 17)."""
    time = np.arange(steps + 1, dtype=np.float64) / max(steps, 1)
    alpha_bar = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
