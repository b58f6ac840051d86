"""The comparison methods by name, and their settings as a command asks for them."""

import contextlib
import dataclasses
import math
from typing import Any

import numpy as np

from rad_jax.baselines import ddnm, ddrm, deqir, mcg, repaint, score_sde
from rad_jax.baselines.chain import Filled, Noise
from rad_jax.baselines.choice import Baseline
from rad_jax.diffusion.options import nearest
from rad_jax.diffusion.sampling import Denoiser
from rad_jax.diffusion.schedule import Schedule
from rad_jax.errors import UserError
from rad_jax.typing import Images, Masks

Settings = (
    score_sde.ScoreSDE | ddrm.DDRM | repaint.RePaint | mcg.MCG | ddnm.DDNM | deqir.DeqIR
)

MODULES = {
    "score_sde": score_sde,
    "ddrm": ddrm,
    "repaint": repaint,
    "mcg": mcg,
    "ddnm": ddnm,
    "deqir": deqir,
}

OF_SETTINGS = {type(module.PRESETS["fair"]): module for module in MODULES.values()}
"""By settings: a preset of RePaint is Score-SDE's program."""

HARD_MASKS_ONLY = ("ddrm", "ddnm", "deqir")
"""Methods of linear inverse problems, to which a pixel is measured or is not."""


def settings_of(baseline: Baseline, schedule: Schedule) -> Settings:
    """The settings that are meant; preset first, then single ones, then the steps.

    Args:
      baseline: what is asked for.
      schedule: the model's.

    Raises:
      UserError: a setting is unknown (naming the nearest) or its value is none, or the
        schedule has no such steps.
    """
    preset = MODULES[baseline.method].PRESETS[baseline.preset]
    given = {
        name: _value(baseline.method, preset, name, text)
        for name, text in baseline.settings
    }
    settings = dataclasses.replace(preset, **given)
    if baseline.nfe is not None:
        return _at_most(baseline, settings, schedule)
    evaluations(schedule, settings)  # refuses what cannot be
    return settings


def _value(method: str, preset: Settings, name: str, text: str) -> Any:
    known: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(preset)}
    if name not in known:
        raise UserError(
            f"{method} has no setting {name!r}; it has {', '.join(known)}"
            f"{nearest(name, list(known))}"
        )
    kind = known[name]
    if kind is bool:
        if text in ("true", "false"):
            return text == "true"
        raise UserError(f"setting {name} is {text!r}; use true or false")
    if kind is str:
        return text
    number = "a whole number" if kind is int else "a number"
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"setting {name} is {text!r}; it must be {number}")
    return value


def _at_most(baseline: Baseline, settings: Settings, schedule: Schedule) -> Settings:
    """The most steps that take at most so many evaluations.

    RePaint's jumps keep their share of the chain, if their length is not given.
    """
    nfe = baseline.nfe or 1
    for steps in range(min(nfe, schedule.config.hole_steps), 0, -1):
        tried = dataclasses.replace(settings, steps=steps)
        jumps_given = "jump_length" in dict(baseline.settings)
        if isinstance(settings, repaint.RePaint) and not jumps_given:
            length = max(1, steps * settings.jump_length // settings.steps)
            tried = dataclasses.replace(tried, jump_length=length)
        with contextlib.suppress(UserError):  # DeqIR cannot take every number
            if evaluations(schedule, tried) <= nfe:
                return tried
    least = evaluations(schedule, dataclasses.replace(settings, steps=1))
    raise UserError(f"nfe is {nfe}; {baseline.method} so takes at least {least}")


def evaluations(schedule: Schedule, settings: Settings) -> int:
    """Network evaluations that an image takes at most, without backward ones.

    Raises:
      UserError: the schedule has not these steps.
    """
    return OF_SETTINGS[type(settings)].evaluations(schedule, settings)


def fill(
    denoise: Denoiser,
    schedule: Schedule,
    settings: Settings,
    images: Images,
    masks: Masks,
    noise: Noise,
) -> Filled:
    """Fills holes by the method whose settings these are; see `score_sde.fill`."""
    module = OF_SETTINGS[type(settings)]
    return module.fill(denoise, schedule, settings, images, masks, noise)


def described(settings: Settings) -> str:
    """In one line, as ``--set`` takes them."""
    pairs = dataclasses.asdict(settings).items()
    return ", ".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in pairs
    )


def require_mask(method: str, mask: np.ndarray, name: str = "mask") -> None:
    """Refuses a mask that a method cannot take.

    Args:
      method: one of `choice.METHODS`.
      mask: (h, w), or several, 1 in the hole.
      name: of the mask, for the message.

    Raises:
      UserError: it is soft, where the method knows only hard ones, or a hole of
        everything.
    """
    if method in HARD_MASKS_ONLY and not np.all((mask == 0) | (mask == 1)):
        raise UserError(
            f"{name}: is soft, and {method} knows pixels that are known or are not; "
            "leave feather out, or use the method rad, repaint, score_sde or mcg"
        )
    if np.all(mask == 1, axis=(-2, -1)).any():
        raise UserError(
            f"{name}: is a hole of everything, which leaves {method} nothing to go by; "
            "rad-jax sample draws whole pictures"
        )
