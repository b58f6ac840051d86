"""The comparison methods as Markdown: settings, evaluations, sources."""

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

from rad_jax.baselines import methods
from rad_jax.diffusion.schedule import make_schedule
from rad_jax.diffusion.schedule_config import ScheduleConfig


class About(NamedTuple):
    """What code does not tell.

    Attributes:
      known: what becomes of known pixels, as published and as mended.
      source: how to cite it.
      reasons: why the presets differ, by setting.
    """

    known: tuple[str, str]
    source: str
    reasons: Mapping[str, str]


PASTED = "the picture's own"
ABOUT = {
    "score_sde": About(
        ("with noise of variance 1e-4", PASTED),
        "Song et al., Score-Based Generative Modeling through Stochastic Differential "
        "Equations, ICLR 2021",
        {
            "paste_level": "after a step from t to s the official loop pastes the "
            "known pixels at the noise of t, one step behind the rest; mended it is "
            "that of s"
        },
    ),
    "ddrm": About(
        ("the network's in the last step", PASTED),
        "Kawar et al., Denoising Diffusion Restoration Models, NeurIPS 2022",
        {
            "final_paste": "the official program compares with > where the paper has "
            ">=, and ends with the network's known pixels; mended they are pasted"
        },
    ),
    "repaint": About(
        ("the network's in the last step", PASTED),
        "Lugmayr et al., RePaint: Inpainting using Denoising Diffusion Probabilistic "
        "Models, CVPR 2022",
        {
            "final_paste": "Alg. 1 ends with a paste, the official program with the "
            "network's known pixels"
        },
    ),
    "mcg": About(
        ("with noise of variance 1e-4", PASTED),
        "Chung et al., Improving Diffusion Models for Inverse Problems using Manifold "
        "Constraints, NeurIPS 2022",
        {
            "norm": "the official program takes the norm of a whole batch's error, so "
            "that images change each other; mended it is each image's. As published "
            "images are filled one by one here, as its authors ran it",
            "paste_level": "as of Score-SDE",
        },
    ),
    "ddnm": About(
        (PASTED, PASTED),
        "Wang et al., Zero-Shot Image Restoration Using Denoising Diffusion Null-Space "
        "Model, ICLR 2023",
        {"final_paste": "without noise in the known pixels it changes nothing"},
    ),
    "deqir": About(
        (PASTED, PASTED),
        "Cao et al., Deep Equilibrium Diffusion Restoration with Parallel Sampling, "
        "CVPR 2024",
        {
            "solver": "the official program iterates the whole chain up to 15 times "
            "and stops before it has converged; serially its fixed point is exact, and "
            "takes one evaluation a step"
        },
    ),
}


def settings_table() -> str:
    """Each method's published settings, evaluations, and known pixels."""
    schedule = make_schedule(ScheduleConfig(known_steps=0))
    lines = [
        "| `--method` | settings, as published | evaluations published / fair | known "
        "pixels published / fair |",
        "|---|---|---|---|",
    ]
    for name, module in methods.MODULES.items():
        published, fair = (module.PRESETS[x] for x in ("published", "fair"))
        counts = [methods.evaluations(schedule, x) for x in (published, fair)]
        back = ", as many backward" if name == "mcg" else ""
        numbers = " / ".join(f"{count:,}" for count in counts) + back
        told = methods.described(published)
        known = " / ".join(ABOUT[name].known)
        lines.append(f"| `{name}` | {told} | {numbers} | {known} |")
    return "\n".join(lines)


def differences() -> str:
    """A line for each setting in which the presets of a method differ.

    Raises:
      KeyError: nobody has said why.
    """
    lines = []
    for name, module in methods.MODULES.items():
        published, fair = (
            dataclasses.asdict(module.PRESETS[x]) for x in ("published", "fair")
        )
        for field, value in published.items():
            if value != fair[field]:
                pair = f"`{field}` {str(value).lower()} / {str(fair[field]).lower()}"
                line = f"- `{name}`, {pair}: {ABOUT[name].reasons[field]}."
                lines.append(textwrap.fill(line, 120, subsequent_indent="  "))
    return "\n".join(lines)


def citations() -> str:
    """How to cite each method."""
    return "\n".join(f"- `{name}`: {about.source}." for name, about in ABOUT.items())
