"""``rad-jax masks``."""

import argparse

from rad_jax.cli.arguments import Parser, add_any_coverage_flag, path
from rad_jax.masks.kinds import KINDS, MAX_COVERAGE

HELP = "Draw a set of masks, seeded, and its statistics."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument("kind", help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}")
    sub.add_argument("--size", type=int, default=256, help="pixels")
    sub.add_argument("--count", type=int, default=100, help="masks")
    sub.add_argument("--seed", type=int, default=0, help="of the whole set")
    sub.add_argument("--output", type=path, required=True, help="new folder")
    add_any_coverage_flag(sub)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.evaluate.mask_files import write_masks

    write_masks(
        args.kind,
        args.size,
        args.count,
        args.seed,
        args.output,
        max_coverage=None if args.any_coverage else MAX_COVERAGE,
    )
    return 0
