"""Published bases in latents by name: what their single files do not say.

Of latent diffusion those without conditions (Rombach et al. 2022, and the
configurations of its repository), of Stable Diffusion 1.x and 2.x those of four
channels. Fine-tuned ones have the architecture of what they were made of.
"""

from typing import Any, NamedTuple

from rad_jax.convert.autoencoder import SCALING_FACTOR
from rad_jax.convert.choices import FILES
from rad_jax.diffusion.betas import LATENT_CHURCHES, LATENT_VQ, STABLE_DIFFUSION
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.autoencoder_config import AutoencoderConfig
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.models.config import UNetConfig
from rad_jax.models.sd_config import SDConfig
from rad_jax.text.tokenizer import END


class LatentPreset(NamedTuple):
    """A published checkpoint.

    Attributes:
      file: its name.
      config: its network.
      ends: first and last of its scaled linear betas.
      parametrisation: what it predicts.
      codec: its autoencoder.
      text: its encoder of texts, or None.
      pad: what fills up short texts.
      own_factor: the file has the factor of its latents, which training found.
    """

    file: str
    config: UNetConfig | SDConfig
    ends: tuple[float, float]
    parametrisation: str
    codec: AutoencoderConfig
    text: CLIPConfig | None = None
    pad: str = END
    own_factor: bool = False


def process(kind: str, ends: tuple[float, float]) -> ScheduleConfig:
    """That of a plain base in latents, which knows no phase 2."""
    return ScheduleConfig(kind, known_steps=0, hole_betas=ends, known_betas=ends)


def _ldm(**settings: Any) -> UNetConfig:
    """A U-Net of latent diffusion without conditions."""
    common = {
        "num_res_blocks": 2,
        "learn_sigma": False,
        "use_new_attention_order": False,
    }
    return UNetConfig(**{**common, **settings})


def _sd(image_size: int, **settings: Any) -> SDConfig:
    """One of Stable Diffusion, trained on latents of this side."""
    return SDConfig(
        image_size=image_size,
        model_channels=320,
        channel_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        attention_resolutions=(image_size, image_size // 2, image_size // 4),
        **settings,
    )


def _kl(image_size: int) -> AutoencoderConfig:
    """KL-f8."""
    return AutoencoderConfig(
        kind="kl",
        widths=(128, 256, 512, 512),
        num_res_blocks=2,
        latent_channels=4,
        scaling_factor=SCALING_FACTOR,
        image_size=image_size,
    )


_FACES = (
    _ldm(
        image_size=64,
        model_channels=224,
        channel_mult=(1, 2, 3, 4),
        attention_resolutions=(32, 16, 8),
        num_head_channels=32,
        use_scale_shift_norm=False,
        resblock_updown=False,
    ),
    LATENT_VQ,
    "eps",
    AutoencoderConfig(
        kind="vq",
        widths=(128, 256, 512),
        num_res_blocks=2,
        latent_channels=3,
        num_codes=8192,
    ),
)
_CHURCHES = (
    _ldm(
        image_size=32,
        model_channels=192,
        channel_mult=(1, 2, 2, 4, 4),
        attention_resolutions=(32, 16, 8, 4),
        in_channels=4,
        out_channels=4,
        num_heads=8,
        num_head_channels=-1,
    ),
    LATENT_CHURCHES,
    "eps",
    _kl(256),
    *(None, END, True),
)
_VIT_L = CLIPConfig(768, 3072, num_heads=12, num_layers=12)
_VIT_H = CLIPConfig(1024, 4096, num_heads=16, num_layers=23, activation="gelu")
_TWO: dict[str, Any] = {"context_channels": 1024, "num_head_channels": 64}

_BASES: dict[str, tuple] = {
    "ldm_ffhq256": _FACES,
    "ldm_celebahq256": _FACES,
    "ldm_bedroom256": _FACES,
    "ldm_churches256": _CHURCHES,
    "sd15": (_sd(64), STABLE_DIFFUSION, "eps", _kl(512), _VIT_L),
    "sd21": (_sd(96, **_TWO), STABLE_DIFFUSION, "v", _kl(768), _VIT_H, "!"),
    "sd21_base": (_sd(64, **_TWO), STABLE_DIFFUSION, "eps", _kl(512), _VIT_H, "!"),
}

LATENT_PRESETS = {
    name: LatentPreset(FILES[name], *parts) for name, parts in _BASES.items()
}
"""Those of `choices.FILES` that are of bases in latents."""
