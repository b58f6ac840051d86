"""``rad-jax sample``."""

import argparse

from rad_jax.cli.arguments import Parser, add_model_flags, count, path, set_up_jax
from rad_jax.diffusion.generation_options import GenerationOptions
from rad_jax.diffusion.options import METHODS
from rad_jax.inference.file_options import FileOptions

HELP = "Draw whole images from a model, e.g. a converted one."


def classes(text: str) -> list[int]:
    """Class numbers between commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of classes; give numbers such as 207,360"
        )
    return [int(part) for part in parts]


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    add_model_flags(sub)
    sub.add_argument(
        "--output", type=path, required=True, help="new folder, or .png file for one"
    )
    sub.add_argument(
        "--num_samples",
        type=count,
        help="by default one for each class or low_res picture that is given",
    )
    sub.add_argument(
        "--respacing",
        default=GenerationOptions.respacing,
        help="timesteps, as guided-diffusion writes them: 250, 10,20,30 or ddim25",
    )
    sub.add_argument(
        "--sampler",
        choices=METHODS,
        default=GenerationOptions.sampler,
        help="method of the reverse process",
    )
    sub.add_argument(
        "--eta",
        type=float,
        default=GenerationOptions.eta,
        help="noise of the sampler ddim, 0 to 1",
    )
    sub.add_argument(
        "--classes",
        type=classes,
        help="e.g. 207,360, over and over; by default drawn from the seed",
    )
    sub.add_argument(
        "--low_res", type=path, help="what an upsampler enlarges: file or folder"
    )
    sub.add_argument(
        "--overwrite", action="store_true", help="replace files of the same names"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    options = GenerationOptions(
        args.respacing, args.sampler, args.eta, args.num_samples, args.classes
    )
    files = FileOptions(args.seed, batch_size=args.batch_size, overwrite=args.overwrite)
    set_up_jax()
    from rad_jax.checkpoints.load import load_diffusion
    from rad_jax.inference.sample_files import sample_files

    model = load_diffusion(args.model, dtype=args.dtype)
    sample_files(model, args.output, options, files, args.low_res)
    return 0
