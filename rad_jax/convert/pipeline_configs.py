"""Configurations of the parts of diffusers' pipelines, for what we have of them."""

from typing import Any

from rad_jax.checkpoints.model import Model, Text
from rad_jax.convert import clip
from rad_jax.convert.diffusers_folder import PREDICTIONS
from rad_jax.convert.latent_folder import CONDITIONED, LATENT_SCHEDULES
from rad_jax.diffusion.betas import ADM_STEPS
from rad_jax.errors import UserError
from rad_jax.models.autoencoder_config import AutoencoderConfig
from rad_jax.models.config import GROUPS, UNetConfig
from rad_jax.models.sd_config import SDConfig
from rad_jax.text.tokenizer import END, START

VERSION = "0.27.2"
"""Of diffusers: this one and later ones read what is written."""


def scheduler_config(model: Model) -> dict[str, Any]:
    """DDIM's, on the process of the base.

    Raises:
      UserError: diffusers has none.
    """
    schedule = model.schedule
    names = {ours: theirs for theirs, ours in LATENT_SCHEDULES.items()}
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if model.parametrisation not in predictions or schedule.kind not in names:
        raise UserError(
            f"predicts {model.parametrisation} of the process {schedule.kind}, which "
            "no scheduler of diffusers has"
        )
    if schedule.base_steps != ADM_STEPS or schedule.timestep_scale != 1:
        raise UserError(
            f"its process has {schedule.base_steps} steps; only {ADM_STEPS} can be "
            "written for diffusers"
        )
    start, end = schedule.hole_betas
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": VERSION,
        "beta_start": start,
        "beta_end": end,
        "beta_schedule": names[schedule.kind],
        "num_train_timesteps": schedule.base_steps,
        "prediction_type": predictions[model.parametrisation],
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1 if model.text else 0,
        "trained_betas": None,
    }


def sd_config(config: SDConfig, *, linear: bool) -> dict[str, Any]:
    """Configuration of a `UNet2DConditionModel`; what it calls channels are heads."""
    levels = range(config.num_resolutions)
    attends = [config.has_attention(level) for level in levels]
    heads = [config.heads(width, up=False) for width in config.widths]
    return {
        "_class_name": CONDITIONED,
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "attention_head_dim": heads[0] if len(set(heads)) == 1 else heads,
        "block_out_channels": list(config.widths),
        "cross_attention_dim": config.context_channels,
        "down_block_types": [
            "CrossAttnDownBlock2D" if x else "DownBlock2D" for x in attends
        ],
        "up_block_types": [
            "CrossAttnUpBlock2D" if x else "UpBlock2D" for x in reversed(attends)
        ],
        "downsample_padding": 1,
        "dropout": config.dropout,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "layers_per_block": config.num_res_blocks,
        "norm_eps": 1e-5,
        "norm_num_groups": GROUPS,
        "sample_size": config.image_size,
        "use_linear_projection": linear,
    }


def unet_config(config: UNetConfig) -> dict[str, Any]:
    """Configuration of a `UNet2DModel`.

    Raises:
      UserError: its heads are of several widths, of which that class has but one.
    """
    levels = range(config.num_resolutions)
    attends = [config.has_attention(level) for level in levels]
    # The middle has attention in any case.
    widths = {config.widths[x] for x in levels if attends[x]} | {config.widths[-1]}
    sizes = {
        width // config.heads(width, up=up) for width in widths for up in (False, True)
    }
    if len(sizes) > 1:
        raise UserError(
            f"has heads of {', '.join(map(str, sorted(sizes)))} channels, and "
            "diffusers' UNet2DModel but of one number"
        )
    kind = "resnet" if config.resblock_updown else "conv"
    plain = "Resnet{0}sampleBlock2D" if config.resblock_updown else "{0}Block2D"

    def names(direction: str) -> list[str]:
        own = plain.format(direction)
        return [f"Attn{direction}Block2D" if x else own for x in attends]

    return {
        "_class_name": "UNet2DModel",
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "attention_head_dim": sizes.pop(),
        "block_out_channels": list(config.widths),
        "down_block_types": names("Down"),
        "up_block_types": names("Up")[::-1],
        "downsample_type": kind,
        "upsample_type": kind,
        "downsample_padding": 1,
        "dropout": config.dropout,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": config.in_channels,
        "out_channels": config.output_channels,
        "layers_per_block": config.num_res_blocks,
        "norm_eps": 1e-5,
        "norm_num_groups": GROUPS,
        "num_class_embeds": config.num_classes,
        "resnet_time_scale_shift": (
            "scale_shift" if config.use_scale_shift_norm else "default"
        ),
        "sample_size": config.image_size,
    }


def codec_config(config: AutoencoderConfig) -> dict[str, Any]:
    """Configuration of an `AutoencoderKL` or a `VQModel`."""
    count = len(config.widths)
    found = {
        "_class_name": "VQModel" if config.kind == "vq" else "AutoencoderKL",
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "block_out_channels": list(config.widths),
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "up_block_types": ["UpDecoderBlock2D"] * count,
        "in_channels": config.image_channels,
        "out_channels": config.image_channels,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.num_res_blocks,
        "norm_num_groups": GROUPS,
        "sample_size": config.image_size,
        "scaling_factor": config.scaling_factor,
    }
    if config.kind == "vq":
        # Latents of a VQModel are not scaled, which is not that class's default.
        codes = {"num_vq_embeddings": config.num_codes}
        found |= codes | {"vq_embed_dim": config.latent_channels}
    return found


def encoder_config(text: Text) -> dict[str, Any]:
    """Configuration of a `CLIPTextModel`."""
    own = {theirs: getattr(text.config, x) for theirs, x in clip.SETTINGS.items()}
    tokenizer = text.tokenizer
    marks: dict[str, int] = {}
    if tokenizer:
        names = {"bos": START, "eos": END, "pad": tokenizer.pad}
        marks = {f"{x}_token_id": tokenizer.tokens.index(t) for x, t in names.items()}
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        **own,
        **marks,
        "layer_norm_eps": clip.EPSILON,
        "dtype": "float32",
    }
