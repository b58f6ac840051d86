"""``rad-jax inpaint``."""

import argparse

from rad_jax.cli.arguments import (
    Parser,
    add_model_flags,
    add_sampling_flags,
    path,
    set_up_jax,
)
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.strategy import STRATEGIES, StrategyOptions

HELP = "Fill the holes of an image or a folder of images."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    add_model_flags(sub)
    sub.add_argument("--image", type=path, required=True, help="file or folder")
    sub.add_argument(
        "--mask",
        type=path,
        required=True,
        help="file, or folder with the images' names; white is filled",
    )
    sub.add_argument(
        "--output", type=path, required=True, help=".png file, or folder of them"
    )
    add_sampling_flags(sub)
    sub.add_argument(
        "--eta",
        type=float,
        default=SamplingOptions.eta,
        help="noise of the sampler ddim, 0 to 1",
    )
    sub.add_argument("--invert_mask", action="store_true", help="black is filled")
    alpha = sub.add_mutually_exclusive_group()
    alpha.add_argument(
        "--opaque_hole",
        action="store_true",
        default=None,
        help="make filled pixels opaque where the image is transparent",
    )
    alpha.add_argument(
        "--keep_alpha",
        dest="opaque_hole",
        action="store_false",
        help="keep transparency in the hole, and say nothing of it",
    )
    sub.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default=StrategyOptions.strategy,
        help="for pictures larger than the model, see docs/inpainting.md",
    )
    sub.add_argument(
        "--context",
        type=float,
        default=StrategyOptions.context,
        help="around a part of the hole that is cropped or tiled, in sides of it",
    )
    sub.add_argument("--label", type=int, help="class of the images, if it has some")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    sampling = SamplingOptions(
        args.steps, args.sampler, args.grid, args.eta, args.label
    )
    files = FileOptions(
        args.seed,
        args.num_samples,
        args.batch_size,
        invert_mask=args.invert_mask,
        opaque_hole=args.opaque_hole,
    )
    strategy = StrategyOptions(args.strategy, args.context)
    set_up_jax()
    from rad_jax.checkpoints.load import load
    from rad_jax.inference.inpaint_command import fill_files

    model = load(args.model, dtype=args.dtype)
    return fill_files(
        model, args.image, args.mask, args.output, sampling, files, strategy
    )
