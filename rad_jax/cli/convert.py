"""``rad-jax convert``."""

import argparse

from rad_jax.cli.arguments import Parser, count, model_place, path
from rad_jax.convert.choices import FILES, Choices

HELP = (
    "Make a model folder of a checkpoint of ADM, score_sde, latent or Stable "
    "Diffusion, or LaMa, and back."
)


def boolean(text: str) -> bool:
    """Whether it says true."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


CHOICES = (
    ("image_size", count, "N", "pixels that it was trained on"),
    ("num_heads", count, "N", "attention heads, or:"),
    ("num_head_channels", int, "N", "channels of an attention head"),
    ("num_heads_upsample", int, "N", "num_heads of the way up; -1: the same"),
    ("use_new_attention_order", boolean, "true|false", "of the channels of q, k and v"),
    ("noise_schedule", str, "linear|cosine", "that it was trained with"),
    ("diffusion_steps", count, "N", "of its process; 1000 by default"),
    ("rescale_timesteps", boolean, "true|false", "told as of 1000; false by default"),
    ("dropout", float, "RATE", "in training; 0 by default"),
)
"""Flags of `convert.choices.Choices`: name, type, placeholder, help."""


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument(
        "--input",
        type=model_place,
        required=True,
        help="checkpoint (.pt, .pth, .safetensors, .npz, Flax's msgpack, index of "
        "shards), or folder of a model (also hf://owner/name@revision), of a run or of "
        "diffusers",
    )
    sub.add_argument("--output", type=path, required=True, help="new folder or file")
    sub.add_argument(
        "--to",
        help="torch, safetensors or diffusers: write such a file (of a base in "
        "latents diffusers: a folder); "
        "adapters: the folder of a run's adapters alone",
    )
    sub.add_argument(
        "--base", type=model_place, help="the model to merge adapters into"
    )
    sub.add_argument(
        "--key",
        help="where in the checkpoint the weights are, such as ema or model.ema, if "
        "not those that are found",
    )
    sub.add_argument(
        "--tokenizer",
        type=path,
        metavar="FOLDER",
        help="of a single file of Stable Diffusion, which has none: a folder with "
        "tokenizer.json, or vocab.json and merges.txt",
    )
    sub.add_argument(
        "--allow_nonfinite",
        action="store_true",
        help="take weights that are NaN or infinite as they are",
    )
    sub.add_argument("--overwrite", action="store_true", help="replace the output")
    sub.add_argument("--preset", help="published checkpoint; sets all options below")
    for name, kind, metavar, text in CHOICES:
        sub.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)
    lines = [f"  {name:26}{file}" for name, file in FILES.items()]
    sub.epilog = "\n".join(["presets, and the files they are of:", *lines])


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.convert.command import convert

    convert(
        args.input,
        args.output,
        preset=args.preset,
        choices=Choices(**{name: getattr(args, name) for name, *_ in CHOICES}),
        key=args.key,
        to=args.to,
        base=args.base,
        tokenizer=args.tokenizer,
        allow_nonfinite=args.allow_nonfinite,
        overwrite=args.overwrite,
    )
    return 0
