"""Pieces of the command line: the parser, types of arguments, long lists of flags."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rad_jax.errors import UserError


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, where argparse would print all flags."""

    last_words: Callable[[], str] | None = None
    """What the help ends with, for which JAX may have to be imported."""

    def format_help(self) -> str:
        """The help."""
        if self.last_words is not None:
            self.epilog = self.last_words()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Exits."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def count(text: str) -> int:
    """A positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a count; give 1 or more")
    return int(text)


def folder(text: str):
    """A folder, which may lie in a bucket: `remote.AnyPath`, imported if needed."""
    if "://" not in text:
        return Path(text)
    from rad_jax.files.bucket import folder_at

    try:
        return folder_at(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def boolean(text: str) -> bool:
    """Whether it says true."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def classes(text: str) -> list[int]:
    """Class numbers between commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of classes; give numbers such as 207,360"
        )
    return [int(part) for part in parts]


CHOICES = (
    ("image_size", count, "N", "pixels that it was trained on"),
    ("num_heads", count, "N", "attention heads, or:"),
    ("num_head_channels", int, "N", "channels of an attention head"),
    ("num_heads_upsample", int, "N", "num_heads of the way up; -1: the same"),
    ("use_new_attention_order", boolean, "true|false", "of the channels of q, k and v"),
    ("noise_schedule", str, "linear|cosine", "that it was trained with"),
    ("dropout", float, "RATE", "in training; 0 by default"),
)
"""Flags of `convert.presets.Choices`: name, type, placeholder, help."""


def add_convert_flags(sub: Parser) -> None:
    """Those of ``rad-jax convert``."""
    sub.add_argument(
        "--input",
        type=folder,
        required=True,
        help="checkpoint (.pt, .pth, .safetensors, .npz), or folder of a model",
    )
    sub.add_argument("--output", type=Path, required=True, help="new folder or file")
    sub.add_argument(
        "--to",
        help="torch, safetensors or diffusers: write such a file; "
        "adapters: the folder of a run's adapters alone",
    )
    sub.add_argument(
        "--base", type=Path, help="folder of the model to merge adapters into"
    )
    sub.add_argument("--overwrite", action="store_true", help="replace the output")
    sub.add_argument("--preset", help="published checkpoint; says all of the following")
    for name, kind, metavar, text in CHOICES:
        sub.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.last_words = _presets


def add_model_flags(sub: Parser) -> None:
    """Which model, how it is computed, and with what noise."""
    sub.add_argument("--model", type=folder, required=True, help="folder of a model")
    sub.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="what it computes in; by default as it was trained",
    )
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--batch_size",
        type=count,
        default=16,
        help="images at once, at most: fewer where the memory is too little",
    )


def add_prepare_flags(sub: Parser) -> None:
    """Those of ``rad-jax prepare``."""
    sub.add_argument(
        "name",
        help="digits, photos, ffhq256, lsun_bedroom256, imagenet256, celeba_hq256, or "
        "a new one for images of your own",
    )
    sub.add_argument("--data_dir", default="data", help="folder of TFDS data sets")
    sub.add_argument(
        "--source", type=Path, help="folder, zip or tar of the images, or LSUN's LMDB"
    )
    sub.add_argument(
        "--size", type=count, help="pixels per side that they are cut to; 256"
    )
    sub.add_argument(
        "--num_workers", type=count, help="processes; by default one for each core"
    )
    sub.add_argument(
        "--num_train",
        type=count,
        help="images to train on at most; by default all, of lsun_bedroom256 288000",
    )
    sub.add_argument(
        "--labels",
        action="store_true",
        help="the folders that the images lie in are their classes",
    )


def add_sample_flags(sub: Parser) -> None:
    """Those of ``rad-jax sample``."""
    add_model_flags(sub)
    sub.add_argument(
        "--output", type=Path, required=True, help="new folder, or .png file for one"
    )
    sub.add_argument(
        "--num_samples",
        type=count,
        help="by default one for each class or low_res picture that is given",
    )
    sub.add_argument(
        "--respacing",
        default="250",
        help="timesteps, as guided-diffusion writes them: 250, 10,20,30 or ddim25",
    )
    sub.add_argument("--sampler", choices=("ddpm", "ddim"), default="ddpm")
    sub.add_argument("--eta", type=float, default=0.0, help="noise of ddim, 0 to 1")
    sub.add_argument(
        "--classes",
        type=classes,
        help="e.g. 207,360, over and over; by default drawn from the seed",
    )
    sub.add_argument(
        "--low_res", type=Path, help="what an upsampler enlarges: file or folder"
    )
    sub.add_argument(
        "--overwrite", action="store_true", help="replace files of the same names"
    )


def _presets() -> str:
    from rad_jax.convert.presets import PRESETS

    lines = [f"  {name:22}{preset.file}" for name, preset in PRESETS.items()]
    return "\n".join(["presets, and the files they are of:", *lines])


def add_train_flags(sub: Parser) -> None:
    """Those of ``rad-jax train``."""
    sub.add_argument(
        "--config", type=Path, required=True, help="e.g. configs/digits.py"
    )
    sub.add_argument("--workdir", type=folder, help="folder of the run; also gs://...")
    sub.add_argument(
        "--dry_run",
        action="store_true",
        help="say what a run needs of 1, 8 and 64 devices; train nothing",
    )
    sub.add_argument(
        "--profile", action="store_true", help="trace a few steps, for XProf"
    )
    add_overrides(sub)


def add_preflight_flags(sub: Parser) -> None:
    """Those of ``rad-jax preflight``."""
    sub.add_argument("--config", type=Path, help="of the run; checks its data, too")
    sub.add_argument("--workdir", type=folder, help="checks that it can be written")
    add_overrides(sub)


def add_sampling_flags(sub: Parser) -> None:
    """How holes are filled."""
    sub.add_argument("--steps", type=count, default=100, help="network evaluations")
    sub.add_argument("--sampler", choices=("ddpm", "ddim", "dpm++"), default="ddpm")
    sub.add_argument(
        "--grid",
        choices=("uniform", "quadratic", "log_snr", "official"),
        default="uniform",
        help="where the steps lie, see docs/benchmarks.md",
    )
    sub.add_argument("--num_samples", type=count, default=1, help="for each image")


def add_inpaint_flags(sub: Parser) -> None:
    """Those of ``rad-jax inpaint``."""
    add_model_flags(sub)
    sub.add_argument("--image", type=Path, required=True, help="file or folder")
    sub.add_argument(
        "--mask",
        type=Path,
        required=True,
        help="file, or folder with the images' names; white is filled",
    )
    sub.add_argument(
        "--output", type=Path, required=True, help=".png file, or folder of them"
    )
    add_sampling_flags(sub)
    sub.add_argument("--invert_mask", action="store_true", help="black is filled")
    sub.add_argument("--label", type=int, help="class of the images, if it has some")


def names(text: str) -> list[str]:
    """Names between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def add_evaluate_flags(sub: Parser) -> None:
    """Those of ``rad-jax evaluate``."""
    add_model_flags(sub)
    sub.add_argument("--output", type=Path, required=True, help="folder of its own")
    _add_data_flags(sub)
    sub.add_argument("--split", help="by default validation, of digits and photos test")
    sub.add_argument(
        "--masks",
        type=names,
        default=["box", "extreme", "wide"],
        help="of box, extreme, wide, medium, thin, perlin; or folders of mask files",
    )
    sub.add_argument("--num_images", type=count, default=1000)
    sub.add_argument(
        "--method",
        default="rad",
        help="rad, or originals: the images themselves, for the least FID there is",
    )
    add_sampling_flags(sub)
    sub.add_argument(
        "--any_coverage",
        action="store_true",
        help="keep strokes that cover more than half, as the authors' generator does",
    )
    sub.add_argument(
        "--metrics",
        type=names,
        default=[],
        help="of pixels, lpips, fid, classifier (of digits)",
    )
    _add_weights_flag(sub)
    sub.add_argument(
        "--reference", type=Path, help=".npz of FID; by default the images themselves"
    )
    sub.add_argument("--name", default="", help="what tables call the model")
    sub.add_argument(
        "--noise_embedding",
        choices=("spatial", "time"),
        help="what the network is told; time for Cfg. 1 and 2 of the paper's Table 3",
    )


def add_reference_flags(sub: Parser) -> None:
    """Those of ``rad-jax reference``."""
    sub.add_argument("--output", type=Path, required=True, help="new .npz file")
    _add_data_flags(sub)
    sub.add_argument("--split", help="by default train, of a folder all images")
    sub.add_argument("--image_size", type=count, help="crops images that are larger")
    sub.add_argument("--num_images", type=count, help="by default all")
    _add_weights_flag(sub)


def _add_data_flags(sub: Parser) -> None:
    sub.add_argument(
        "--data", required=True, help="name of a prepared data set, or: folder"
    )
    sub.add_argument(
        "--data_dir", type=Path, default=Path("data"), help="of data sets, or of images"
    )


def _add_weights_flag(sub: Parser) -> None:
    sub.add_argument(
        "--weights",
        type=Path,
        help="folder with the files of LPIPS' and FID's networks",
    )


def add_masks_flags(sub: Parser) -> None:
    """Those of ``rad-jax masks``."""
    sub.add_argument("kind", help="box, extreme, wide, medium, thin or perlin")
    sub.add_argument("--size", type=int, default=256, help="pixels")
    sub.add_argument("--count", type=int, default=100)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--output", type=Path, required=True, help="new folder")
    sub.add_argument(
        "--any_coverage",
        action="store_true",
        help="keep strokes that cover more than half (LaMa drops them)",
    )


def add_overrides(sub: Parser) -> None:
    """Those of a config."""
    sub.set_defaults(overrides=[])
    sub.epilog = (
        "--config.KEY=VALUE changes a key of the config, e.g. train.batch_size."
    )
