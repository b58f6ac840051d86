"""Small bases in latents as other programs save them: folders and single files."""

import json

import numpy as np
import safetensors.numpy

from rad_jax.convert import clip, diffusers
from rad_jax.models.clip import abstract_params as text_params
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.text.tokenizer import END, START, Tokenizer
from rad_jax.text.tokenizer_files import write_tokenizer
from rad_jax.weight_files import name_table
from tests.models.adm_files import description, golden_weights, random_params
from tests.models.autoencoder_files import KL, VQ, tiny_state
from tests.models.sd_files import sd

STEM = "diffusion_pytorch_model"
V1, V2 = "sd_unet_tiny_v1", "sd_unet_tiny_v2"
LDM = "ldm_unet_tiny_diffusers"

PREDICTIONS = {V1: "epsilon", V2: "v_prediction"}
ENDS = {V1: (0.00085, 0.012), V2: (0.00085, 0.012), LDM: (0.0015, 0.0195)}

LETTERS = [*"!abcdefgh", *(f"{x}</w>" for x in "!abcdefgh"), START, END]


def tokenizer(pad=END):
    """Of few letters and no merges."""
    return Tokenizer(tuple(LETTERS), (), pad, 16)


def encoder(width, activation="quick_gelu"):
    """A text encoder of random weights, whose states have this width."""
    config = CLIPConfig(
        width, 48, 2, 2, len(LETTERS), max_length=16, activation=activation
    )
    return config, random_params(text_params(config))


def encoder_state(width, activation="quick_gelu", prefix="text_model."):
    """Its arrays by transformers' keys."""
    config, params = encoder(width, activation)
    table = clip.transformers_entries(config, prefix)
    state = name_table.write(table, text_params(config), params)
    return {key: np.array(x, order="C") for key, x in state.items()}


def encoder_settings(width, activation="quick_gelu"):
    """Its config.json."""
    config, _ = encoder(width, activation)
    own = {theirs: getattr(config, ours) for theirs, ours in clip.SETTINGS.items()}
    return own | {"architectures": ["CLIPTextModel"], "layer_norm_eps": 1e-5}


def unet_state(name):
    """Arrays of a U-Net of tests/golden/bases."""
    return golden_weights(description(f"bases/{name}")["keys"])


def unet_settings(name):
    """Its config.json."""
    kind = "UNet2DModel" if name == LDM else "UNet2DConditionModel"
    return {"_class_name": kind, **description(f"bases/{name}")["kwargs"]}


def context(name):
    """Channels of what a U-Net is told."""
    return unet_settings(name)["cross_attention_dim"]


def activation(name):
    """Of the encoder."""
    return "gelu" if name == V2 else "quick_gelu"


def pad(name):
    """Of short texts."""
    return "!" if name == V2 else END


def codec_of(name):
    """The autoencoder of a base."""
    return VQ if name == LDM else KL


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_pipeline(folder, name):
    """A folder of diffusers of one of `ENDS`; returns it."""
    told = name != LDM
    vae = "vae" if told else "vqvae"
    codec = codec_of(name)
    parts = {
        "unet": (unet_settings(name), unet_state(name)),
        vae: (description(f"bases/{codec}")["kwargs"], tiny_state(codec)),
    }
    kinds = {"unet": ["diffusers", "U"], vae: ["diffusers", "V"]}
    start, end = ENDS[name]
    scheduler = {
        "beta_schedule": "scaled_linear",
        "beta_start": start,
        "beta_end": end,
        "num_train_timesteps": 1000,
        "prediction_type": PREDICTIONS.get(name, "epsilon"),
    }
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    for part, (settings, state) in parts.items():
        write_json(folder / part / "config.json", settings)
        safetensors.numpy.save_file(state, folder / part / f"{STEM}.safetensors")
    if told:
        text = folder / "text_encoder"
        settings = encoder_settings(context(name), activation(name))
        write_json(text / "config.json", settings)
        state = encoder_state(context(name), activation(name))
        safetensors.numpy.save_file(state, text / "model.safetensors")
        (folder / "tokenizer").mkdir()
        write_tokenizer(tokenizer(pad(name)), folder / "tokenizer")
        kinds |= {"text_encoder": ["transformers", "CLIPTextModel"]}
        kinds |= {"tokenizer": ["transformers", "CLIPTokenizer"]}
        kinds |= {"safety_checker": [None, None]}
    kind = "StableDiffusionPipeline" if told else "LDMPipeline"
    write_json(folder / "model_index.json", {"_class_name": kind, **kinds})
    return folder


def unet_of(name):
    """Configuration and parameters of the U-Net, by the tables themselves."""
    state, settings = unet_state(name), unet_settings(name)
    if name == LDM:
        config = diffusers.config_from_diffusers(settings)
        return config, diffusers.diffusers_to_params(config, state)
    return sd(name)
