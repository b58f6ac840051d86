"""``rad-jax prepare``."""

import argparse

from rad_jax.cli.arguments import Parser, count, folder, path

HELP = "Write a data set as TFDS ArrayRecord files."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument(
        "name",
        help="digits, photos, ffhq256, lsun_bedroom256, imagenet256, celeba_hq256, or "
        "a new one for images of your own",
    )
    sub.add_argument(
        "--data_dir", type=folder, default="data", help="folder of TFDS data sets"
    )
    sub.add_argument(
        "--source", type=path, help="folder, zip or tar of the images, or LSUN's LMDB"
    )
    sub.add_argument(
        "--size", type=count, help="pixels per side to crop to; by default 256"
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


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.prepare.command import prepare

    prepare(
        args.name,
        args.data_dir,
        args.source,
        size=args.size,
        num_workers=args.num_workers,
        num_train=args.num_train,
        labels=args.labels,
    )
    return 0
