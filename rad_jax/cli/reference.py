"""``rad-jax reference``."""

import argparse

from rad_jax.cli.arguments import (
    Parser,
    add_data_flags,
    add_weights_flag,
    count,
    path,
    set_up_jax,
)

HELP = "Make the statistics that FID is measured by."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument("--output", type=path, required=True, help="new .npz file")
    add_data_flags(sub)
    sub.add_argument("--split", help="by default train, of a folder all images")
    sub.add_argument("--image_size", type=count, help="crops images that are larger")
    sub.add_argument("--num_images", type=count, help="by default all")
    add_weights_flag(sub)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    set_up_jax()
    from rad_jax.evaluate.reference import make_reference

    found = make_reference(
        args.output,
        args.data,
        args.data_dir,
        args.split,
        image_size=args.image_size,
        num_images=args.num_images,
        weights=args.weights,
    )
    print(f"{args.output}: statistics of {found.count} images")
    return 0
