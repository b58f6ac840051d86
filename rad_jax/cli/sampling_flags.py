"""Flags that say how holes are filled, and what they come to."""

import argparse
from collections.abc import Sequence

from rad_jax.baselines.choice import METHODS as OTHER_METHODS
from rad_jax.baselines.choice import PRESETS, Baseline, parse_settings
from rad_jax.cli.arguments import Parser, count, times
from rad_jax.diffusion.options import (
    FEW_SAMPLER,
    GRID,
    GRIDS,
    METHODS,
    SAMPLER,
    SEAM,
    SEAMS,
    STEPS,
    SamplingOptions,
    evaluations_in_a_step,
)
from rad_jax.errors import UserError
from rad_jax.inference.file_options import FileOptions

TOLD = ("seam", "prompt", "negative_prompt", "guidance")
"""Flags of models in latents, and of those that are told texts."""


def add_sampling_flags(sub: Parser) -> None:
    """How holes are filled."""
    sub.add_argument(
        "--steps",
        type=count,
        help="network evaluations; heun and pc take two in a step; by default "
        f"{STEPS}, or what the model was distilled for",
    )
    sub.add_argument(
        "--sampler",
        choices=METHODS,
        help=f"method of the reverse process; by default {SAMPLER}, or of a distilled "
        f"model {FEW_SAMPLER}",
    )
    sub.add_argument(
        "--grid",
        choices=GRIDS,
        help=f"where the steps lie, see docs/benchmarks.md; by default {GRID}, or the "
        "times that the model was distilled for",
    )
    sub.add_argument(
        "--times",
        type=times,
        metavar="T,..",
        help="at which the network is asked, falling from T1, in place of --steps and "
        "--grid: 1000,640,360,160",
    )
    sub.add_argument(
        "--num_samples",
        type=count,
        default=FileOptions.num_samples,
        help="for each image",
    )


def add_method_flags(sub: Parser) -> None:
    """Settings of the methods that RAD is compared with."""
    sub.add_argument(
        "--preset",
        choices=PRESETS,
        default=Baseline.preset,
        help="settings of another method than rad: mended, as published, or of repaint "
        "the form that MCG's authors ran; see docs/baselines.md",
    )
    sub.add_argument(
        "--nfe", type=count, help="network evaluations of any method, at most"
    )
    sub.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="one setting of another method than rad, such as steps=50; again for more",
    )


def sampling_of(
    args: argparse.Namespace, method: str, among: Sequence[str] = ()
) -> SamplingOptions | Baseline:
    """How a method fills holes.

    Args:
      args: of a verb with the flags of sampling and of methods.
      method: "rad", or one of `choice.METHODS`.
      among: all that the flags are for.

    Raises:
      UserError: flags do not go together, or a value cannot be.
    """
    others = set(among or [method]) - {"rad"}
    wrong = args.given & {"preset", "set"}
    if wrong and not others:
        raise UserError(
            f"--{min(wrong)} is of the methods {', '.join(OTHER_METHODS)}; give one as "
            "--method"
        )
    wrong = args.given & {"steps", "sampler", "grid", "times", "eta", "snr", *TOLD}
    if wrong and "rad" not in (among or [method]):
        raise UserError(
            f"--{min(wrong)} is RAD's; --method {method} takes --preset, --nfe and "
            "--set KEY=VALUE"
        )
    label = getattr(args, "label", None)
    if method != "rad":
        settings = parse_settings(args.set or [])
        return Baseline(method, args.preset, args.nfe, settings, label)
    if args.nfe is not None and "steps" in args.given:
        raise UserError("--nfe and --steps say the same of rad; give one")
    steps = args.steps
    if args.nfe is not None:
        steps = max(1, args.nfe // evaluations_in_a_step(args.sampler or SAMPLER))
    names = "eta", "snr", *TOLD
    own = {name: getattr(args, name) for name in names if hasattr(args, name)}
    grid = args.grid
    if args.times is not None:
        wrong = args.given & {"steps", "nfe", "grid"}
        if wrong:
            raise UserError(f"--times says what --{min(wrong)} says; give one")
        steps, grid = len(args.times), args.times
    return SamplingOptions(steps, args.sampler, grid, label=label, **own)


def add_told_flags(sub: Parser) -> None:
    """`TOLD`."""
    sub.add_argument(
        "--seam",
        choices=SEAMS,
        help="of models in latents, what is done where the hole ends: nothing, a blend "
        f"inside it, or its gradients are taken alone; by default {SEAM}",
    )
    sub.add_argument(
        "--prompt", help="what is to be seen, for models that are told texts"
    )
    sub.add_argument(
        "--negative_prompt",
        default=SamplingOptions.negative_prompt,
        help="what is not to be seen",
    )
    sub.add_argument(
        "--guidance",
        type=float,
        default=SamplingOptions.guidance,
        help="how much more like the prompt than like the negative one; 1 takes the "
        "prompt alone, in half the time",
    )
