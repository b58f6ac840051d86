"""Published checkpoints of ADM and iDDPM by name, and what shapes leave open.

Wrong heads or a wrong order of attention channels load without an error and give a
network that paints noise. So what the shapes of a file leave open is taken from a named
preset or stated by hand, never guessed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from rad_jax.convert.adm import config_from_adm_flags
from rad_jax.convert.choices import FILES, Choices
from rad_jax.convert.infer import OPENAI, Facts, facts_of
from rad_jax.diffusion.betas import ADM_KINDS, ADM_STEPS, scaled_ends
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models.config import UNetConfig


class Preset(NamedTuple):
    """A published checkpoint.

    Attributes:
      file: its name.
      config: its architecture.
      schedule: RAD's on its process.
    """

    file: str
    config: UNetConfig
    schedule: ScheduleConfig


def _adm(**flags: Any) -> UNetConfig:
    """An ADM, from guided-diffusion's flags where they differ from the commonest."""
    common = {
        "num_channels": 256,
        "num_res_blocks": 2,
        "attention_resolutions": "32,16,8",
        "num_head_channels": 64,
        "resblock_updown": True,
        "learn_sigma": True,
    }
    return config_from_adm_flags({**common, **flags})


def _upsampler(**flags: Any) -> UNetConfig:
    """One that sees a low-resolution image beside the noisy one."""
    config = _adm(
        num_channels=192, channel_mult="1,1,2,2,4,4", class_cond=True, **flags
    )
    # Three of each image; guided-diffusion has no flag for it.
    return dataclasses.replace(config, in_channels=6)


def _iddpm(**flags: Any) -> UNetConfig:
    """An iDDPM, from improved-diffusion's flags where they differ from the commonest.

    Its networks are ADM's of the older kind: convolutions change the resolution, and
    their number of heads is told, not their width.
    """
    common = {
        "num_channels": 128,
        "num_res_blocks": 3,
        "attention_resolutions": "16,8",
        "num_heads": 4,
        "learn_sigma": True,
    }
    return config_from_adm_flags({**common, **flags})


def base_process(kind: str, num_steps: int, *, rescaled: bool) -> ScheduleConfig:
    """RAD's schedule for a base model: both phases are the base's own process.

    Args:
      kind: of its betas.
      num_steps: timesteps of its process.
      rescaled: whether the network is told its timesteps as if of 1000.
    """
    ends = scaled_ends(num_steps if kind == "linear" else ADM_STEPS)
    return ScheduleConfig(
        kind,
        *(num_steps, num_steps),
        *(ends, ends),
        base_steps=num_steps,
        timestep_scale=ADM_STEPS / num_steps if rescaled else 1.0,
    )


_IMAGENET64 = _adm(
    image_size=64,
    num_channels=192,
    num_res_blocks=3,
    use_new_attention_order=True,
    dropout=0.1,
    class_cond=True,
)
_IMAGENET128 = _adm(image_size=128, num_heads=4, num_head_channels=-1, class_cond=True)
_LSUN = _adm(image_size=256, dropout=0.1)
_FFHQ = _adm(
    image_size=256, num_channels=128, num_res_blocks=1, attention_resolutions="16"
)

_IDDPM_CIFAR = _iddpm(image_size=32, channel_mult="1,2,2,2", dropout=0.3)
_IDDPM_LSUN = _iddpm(
    image_size=256,
    num_res_blocks=2,
    num_heads=1,
    attention_resolutions="16",
    channel_mult="1,1,2,2,4,4",
    use_scale_shift_norm=False,
)
_IDDPM_UPSAMPLER = _iddpm(
    image_size=256,
    num_channels=192,
    num_res_blocks=2,
    channel_mult="1,1,2,2,4,4",
    class_cond=True,
)

_LINEAR, _COSINE = (base_process(x, 1000, rescaled=False) for x in ADM_KINDS)
_RESCALED, _COSINE_4000 = (
    base_process("cosine", 4000, rescaled=rescaled) for rescaled in (True, False)
)

_NETWORKS = {
    "imagenet64_cond": (_IMAGENET64, _COSINE),
    "imagenet128_cond": (_IMAGENET128, _LINEAR),
    "imagenet256_cond": (_adm(image_size=256, class_cond=True), _LINEAR),
    "imagenet256_uncond": (_adm(image_size=256), _LINEAR),
    "imagenet512_cond": (_adm(image_size=512, class_cond=True), _LINEAR),
    "lsun_bedroom": (_LSUN, _LINEAR),
    "lsun_cat": (_LSUN, _LINEAR),
    "lsun_horse": (_LSUN, _LINEAR),
    "lsun_horse_nodropout": (_adm(image_size=256), _LINEAR),
    "upsampler_64_256": (
        _upsampler(image_size=256, num_heads=4, num_head_channels=-1),
        _LINEAR,
    ),
    "upsampler_128_512": (
        _upsampler(image_size=512, attention_resolutions="32,16"),
        _LINEAR,
    ),
    "ffhq256": (_FFHQ, _LINEAR),
    "iddpm_imagenet64": (_iddpm(image_size=64), _RESCALED),
    "iddpm_imagenet64_vlb": (_iddpm(image_size=64), _RESCALED),
    "iddpm_imagenet64_cond": (
        _iddpm(image_size=64, num_channels=192, class_cond=True),
        _COSINE_4000,
    ),
    "iddpm_cifar10": (_IDDPM_CIFAR, _RESCALED),
    "iddpm_cifar10_vlb": (_IDDPM_CIFAR, _RESCALED),
    "iddpm_lsun_bedroom": (_IDDPM_LSUN, _LINEAR),
    "iddpm_lsun_bedroom_1200k": (_IDDPM_LSUN, _LINEAR),
    "iddpm_upsampler_64_256": (
        dataclasses.replace(_IDDPM_UPSAMPLER, in_channels=6),
        base_process("linear", 4000, rescaled=False),
    ),
}
"""Architecture and schedule of each of `choices.FILES`."""

PRESETS = {name: Preset(FILES[name], *parts) for name, parts in _NETWORKS.items()}
"""OpenAI's checkpoints (the READMEs of guided-diffusion and improved-diffusion), and
the FFHQ one of DPS and MCG.
"""

PROCESS: dict[str, Any] = {"diffusion_steps": ADM_STEPS, "rescale_timesteps": False}
"""What guided-diffusion's checkpoints have in common of their process."""

OF_SCHEDULE = {"noise_schedule", *PROCESS}
"""Choices that are not of the network."""


def choices_of(config: UNetConfig, schedule: ScheduleConfig) -> Choices:
    """What shapes would not tell of a network and its process."""
    names = {field.name for field in dataclasses.fields(Choices)} - OF_SCHEDULE
    return Choices(
        noise_schedule=schedule.kind,
        diffusion_steps=schedule.base_steps,
        rescale_timesteps=schedule.timestep_scale != 1,
        **{name: getattr(config, name) for name in names},
    )


def schedule_of(choices: Choices) -> ScheduleConfig:
    """RAD's schedule on the process of choices, ADM's where they leave it open.

    Raises:
      UserError: there is no such process, or its betas are not known.
    """
    if choices.noise_schedule == "scaled_linear":
        raise UserError(
            "--noise_schedule scaled_linear is of networks in latents, whose first and "
            "last beta differ; they are not converted by hand"
        )
    return base_process(
        str(choices.noise_schedule),
        choices.diffusion_steps or ADM_STEPS,
        rescaled=bool(choices.rescale_timesteps),
    )


def fitting(facts: Facts) -> list[str]:
    """Names of the presets whose shapes tell the same."""
    return [name for name, each in PRESETS.items() if facts_of(each.config) == facts]


def complete(
    layout: str, facts: Facts, preset: str | None, choices: Choices
) -> Choices:
    """Every choice made: by hand, else by the preset, else if it does not matter.

    Args:
      layout: of the file, see `infer`.
      facts: what its shapes tell.
      preset: name of a preset, which must fit the facts.
      choices: those made by hand; they go before the preset's.

    Raises:
      UserError: naming the facts in which the preset differs, or the choices that are
        still to be made and the presets that would make them.
    """
    made = choices.made()
    # Facts first: a preset of another network would fill in the wrong heads.
    if preset is not None:
        _check_preset(preset, facts)
        _, config, schedule = PRESETS[preset]
        given = choices_of(config, schedule).made()
        # Channels per head, the preset's, would go before heads given by hand.
        if "num_heads" in made:
            given["num_head_channels"] = -1
        made = {**given, **made}
    if layout != OPENAI:
        # q, k and v stand apart there, and go into either order as they should.
        made.setdefault("use_new_attention_order", True)
    missing = [
        f"--{name}"
        for name in ("image_size", "use_new_attention_order", "noise_schedule")
        if name not in made
    ]
    if not {"num_heads", "num_head_channels"} & made.keys():
        missing.append("--num_head_channels or --num_heads")
    if missing:
        raise UserError(
            f"not inferable from tensor shapes: {', '.join(missing)}; give them, or a "
            f"preset{_hint(facts)}"
        )
    # guided-diffusion's defaults.
    others: dict[str, Any] = {
        "num_heads": 4,
        "num_head_channels": -1,
        "num_heads_upsample": -1,
        "dropout": 0.0,
        **PROCESS,
    }
    return Choices(**others | made)


def _check_preset(name: str, facts: Facts) -> None:
    if name not in PRESETS:
        raise UserError(f"{name!r} is no preset; there are {', '.join(PRESETS)}")
    if wrong := mismatch(facts, facts_of(PRESETS[name].config), "the preset"):
        raise UserError(f"does not match preset {name}: {wrong}{_hint(facts)}")


def mismatch(facts: Facts, expected: Facts, owner: str) -> str:
    """In what a file's shapes differ from what `owner` expects; empty if in nothing."""
    values = dataclasses.asdict(expected)
    return "; ".join(
        f"{key} is {value}, {owner}'s {values[key]}"
        for key, value in dataclasses.asdict(facts).items()
        if value != values[key]
    )


def _hint(facts: Facts) -> str:
    names = fitting(facts)
    return f"; presets that fit: {', '.join(names)}" if names else "; no preset fits"


def config_of(facts: Facts, choices: Choices) -> UNetConfig:
    """The architecture of facts and complete choices.

    Raises:
      UserError: they contradict each other, e.g. the heads do not divide the widths.
    """
    shapes: Mapping[str, Any] = dataclasses.asdict(facts)
    # Shapes give the level with attention; a configuration has its side in pixels.
    size = choices.image_size or 0
    values = {
        **shapes,
        **choices.made(),
        "attention_resolutions": [size >> level for level in facts.attention_levels],
    }
    for name in ("attention_levels", *OF_SCHEDULE):
        del values[name]
    return UNetConfig(**values)
