"""Betas of discrete processes: DDPM's linear ones and iDDPM's cosine."""

import numpy as np

KINDS = ("linear", "cosine")

ADM_STEPS = 1000
"""Of the process of ADM's networks."""


def make_betas(kind: str, steps: int, ends: tuple[float, float]) -> np.ndarray:
    """Betas of one of `KINDS`, float64 (steps,); ``ends`` are of linear ones only."""
    return cosine_betas(steps) if kind == "cosine" else linear_betas(steps, *ends)


def scaled_ends(steps: int) -> tuple[float, float]:
    """First and last linear beta that leave as much signal as DDPM's 1000.

    As in improved-diffusion, ``get_named_beta_schedule``.
    """
    scale = ADM_STEPS / steps
    return scale * 1e-4, scale * 0.02


def linear_betas(steps: int, start: float, end: float) -> np.ndarray:
    """Linear betas, float64 (steps,), as in DDPM."""
    return np.linspace(start, end, steps, dtype=np.float64)


def cosine_betas(steps: int) -> np.ndarray:
    """Cosine betas, float64 (steps,), capped at 0.999 (iDDPM eq. 17)."""
    time = np.arange(steps + 1, dtype=np.float64) / max(steps, 1)
    alpha_bar = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
