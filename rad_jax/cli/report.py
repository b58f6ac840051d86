"""``rad-jax report``."""

import argparse

from rad_jax.cli.arguments import Parser, path

HELP = "Make tables and plots of results of evaluate."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument("results", type=path, nargs="+", help="files, or folders of them")
    sub.add_argument("--output", type=path, required=True, help="folder")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.evaluate.report import report

    written = report(args.results, args.output)
    print((args.output / "report.md").read_text())
    print("\n".join(str(path) for path in written))
    return 0
