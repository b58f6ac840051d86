"""What the command line asks of a checkpoint to convert; importable without JAX."""

import dataclasses
from typing import Any

FILES = {
    "imagenet64_cond": "64x64_diffusion.pt",
    "imagenet128_cond": "128x128_diffusion.pt",
    "imagenet256_cond": "256x256_diffusion.pt",
    "imagenet256_uncond": "256x256_diffusion_uncond.pt",
    "imagenet512_cond": "512x512_diffusion.pt",
    "lsun_bedroom": "lsun_bedroom.pt",
    "lsun_cat": "lsun_cat.pt",
    "lsun_horse": "lsun_horse.pt",
    "lsun_horse_nodropout": "lsun_horse_nodropout.pt",
    "upsampler_64_256": "64_256_upsampler.pt",
    "upsampler_128_512": "128_512_upsampler.pt",
    "ffhq256": "ffhq_10m.pt",
    "iddpm_imagenet64": "imagenet64_uncond_100M_1500K.pt",
    "iddpm_imagenet64_vlb": "imagenet64_uncond_vlb_100M_1500K.pt",
    "iddpm_imagenet64_cond": "imagenet64_cond_270M_250K.pt",
    "iddpm_cifar10": "cifar10_uncond_50M_500K.pt",
    "iddpm_cifar10_vlb": "cifar10_uncond_vlb_50M_500K.pt",
    "iddpm_lsun_bedroom": "lsun_uncond_100M_2400K_bs64.pt",
    "iddpm_lsun_bedroom_1200k": "lsun_uncond_100M_1200K_bs128.pt",
    "iddpm_upsampler_64_256": "upsample_cond_500K.pt",
    "ncsnpp_ffhq256": "ve/ffhq_256_ncsnpp_continuous",
    "ncsnpp_celebahq256": "ve/celebahq_256_ncsnpp_continuous",
    "ncsnpp_bedroom256": "ve/bedroom_ncsnpp_continuous",
    "ncsnpp_church256": "ve/church_ncsnpp_continuous",
    "ncsnpp_ffhq1024": "ve/ffhq_1024_ncsnpp_continuous",
    "ncsnpp_cifar10": "ve/cifar10_ncsnpp_continuous",
    "ncsnpp_cifar10_deep": "ve/cifar10_ncsnpp_deep_continuous",
    "ncsnpp_cifar10_discrete": "ve/cifar10_ncsnpp",
    "ddpmpp_cifar10": "vp/cifar10_ddpmpp_continuous",
    "ddpmpp_cifar10_deep": "vp/cifar10_ddpmpp_deep_continuous",
    "ddpmpp_cifar10_discrete": "vp/cifar10_ddpmpp",
    "ddpmpp_cifar10_subvp": "subvp/cifar10_ddpmpp_continuous",
    "ddpmpp_cifar10_deep_subvp": "subvp/cifar10_ddpmpp_deep_continuous",
    "ddpm_cifar10": "vp/cifar10_ddpm",
    "ddpm_cifar10_continuous": "vp/cifar10_ddpm_continuous",
    "ldm_ffhq256": "ldm/ffhq256/model.ckpt",
    "ldm_celebahq256": "ldm/celeba256/model.ckpt",
    "ldm_bedroom256": "ldm/lsun_beds256/model.ckpt",
    "ldm_churches256": "ldm/lsun_churches256/model.ckpt",
    "sd15": "v1-5-pruned.ckpt, and others of Stable Diffusion 1.x",
    "sd21": "v2-1_768-ema-pruned.ckpt, and others that predict v",
    "sd21_base": "v2-1_512-ema-pruned.ckpt, and others that predict noise",
}
"""Published file of each of `presets.PRESETS`, by name, of score_sde's
`sde_presets.SDE_PRESETS` the folder of its checkpoints, and the file of each of
`latent_presets.LATENT_PRESETS`.
"""


@dataclasses.dataclass(frozen=True)
class Choices:
    """What shapes do not tell; None is not chosen. Attributes are `UNetConfig`'s.

    Attributes:
      image_size: pixels that it was trained on.
      num_heads: attention heads, where there is no num_head_channels.
      num_head_channels: channels of a head, or -1.
      num_heads_upsample: num_heads of the way up, or -1 for the same.
      use_new_attention_order: of the channels of q, k and v.
      noise_schedule: "linear" or "cosine", `ScheduleConfig.kind`.
      diffusion_steps: of the process, `ScheduleConfig.base_steps`.
      rescale_timesteps: whether the network is told its timesteps as if of 1000.
      dropout: rate in training.
    """

    image_size: int | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None
    num_heads_upsample: int | None = None
    use_new_attention_order: bool | None = None
    noise_schedule: str | None = None
    diffusion_steps: int | None = None
    rescale_timesteps: bool | None = None
    dropout: float | None = None

    def made(self) -> dict[str, Any]:
        """Those that are made."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None}
