"""``rad-jax VERB``: parses, calls one library function, exits.

Exit codes: 0 done, 1 done but for files that are named, 2 a mistake that one line on
stderr explains, 3 a crash, with its traceback, which may not come again, 130 stopped by
Ctrl-C, 141 nobody reads the output any more (`| head`).
"""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence

from rad_jax.cli import (
    convert,
    demo,
    evaluate,
    info,
    inpaint,
    masks,
    preflight,
    prepare,
    push,
    reference,
    report,
    sample,
    train,
)
from rad_jax.cli.arguments import OVERRIDE, HelpFormatter, Parser, with_values
from rad_jax.cli.completion import SHELLS, PrintCompletion
from rad_jax.errors import UserError
from rad_jax.version import __version__

VERBS = {
    "demo": demo,
    "prepare": prepare,
    "train": train,
    "preflight": preflight,
    "inpaint": inpaint,
    "evaluate": evaluate,
    "reference": reference,
    "report": report,
    "sample": sample,
    "convert": convert,
    "push": push,
    "masks": masks,
    "info": info,
}
"""Each has HELP, add_flags and run. Only run imports JAX: help answers at once."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a name in another alphabet is no error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    given = sys.argv[1:] if argv is None else argv
    args, rest = parser.parse_known_args(with_values(given))
    unknown = [x for x in rest if not OVERRIDE.match(x)]
    if unknown or (rest and not hasattr(args, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    args.overrides = rest
    # Names of flags, to tell those that somebody wrote from defaults.
    args.given = {x[2:].partition("=")[0] for x in given if x.startswith("--")}
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except UserError as error:
        if args.debug:
            traceback.print_exc()
        print(f"rad-jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rad-jax: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is left to print has nowhere to go, when Python exits too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:  # Python's own code for it is 1, which is taken
        traceback.print_exc()
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="rad-jax",
        description="RAD in JAX: region-aware diffusion models for image inpainting.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        help="print a script that completes verbs, flags and files, for a shell",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, verb in VERBS.items():
        sub = verbs.add_parser(
            name,
            help=verb.HELP,
            description=verb.HELP,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
        )
        sub.add_argument("--debug", action="store_true", help="show the traceback")
        verb.add_flags(sub)
        sub.set_defaults(run=verb.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
