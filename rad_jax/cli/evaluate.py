"""``rad-jax evaluate``."""

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rad_jax.baselines.choice import METHODS as OTHERS
from rad_jax.baselines.choice import Baseline
from rad_jax.chips.slices import Slice
from rad_jax.cli.arguments import (
    Parser,
    add_any_coverage_flag,
    add_data_flags,
    add_model_flags,
    add_weights_flag,
    count,
    model_place,
    names,
    path,
)
from rad_jax.cli.chips import add_dry_run_flags, chips_to_fill_on
from rad_jax.cli.sampling_flags import (
    add_method_flags,
    add_sampling_flags,
    sampling_of,
)
from rad_jax.diffusion.options import require_one_of
from rad_jax.errors import UserError
from rad_jax.evaluate.settings import ORIGINALS, Evaluation
from rad_jax.inference.file_options import FileOptions
from rad_jax.masks.kinds import KINDS, MAX_COVERAGE

if TYPE_CHECKING:
    from rad_jax.checkpoints.model import AnyModel

HELP = "Fill held-out images, and score the fillings."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    add_model_flags(sub)
    sub.add_argument("--output", type=path, help="folder of its own")
    add_data_flags(sub, required=False)  # `run` asks for it
    sub.add_argument("--split", help="by default validation, of digits and photos test")
    sub.add_argument(
        "--masks",
        type=names,
        default=",".join(Evaluation.masks),
        help=f"of {', '.join(KINDS)}; or folders of mask files",
    )
    sub.add_argument(
        "--num_images",
        type=count,
        default=Evaluation.num_images,
        help="the first ones of the split",
    )
    sub.add_argument(
        "--method",
        type=names,
        default=Evaluation.method,
        help=f"of rad, {', '.join(OTHERS)}; originals: the images themselves, for the "
        "FID floor; all: rad and the others. Several have a folder each in the output",
    )
    sub.add_argument(
        "--plain_model",
        type=model_place,
        help="plain ADM for the methods that need one; by default --model",
    )
    add_sampling_flags(sub)
    add_method_flags(sub)
    add_any_coverage_flag(sub)
    sub.add_argument(
        "--metrics",
        type=names,
        default="",
        help="of pixels, lpips, fid, classifier (of digits); by default the "
        "classifier of digits, of anything else lpips and fid",
    )
    add_weights_flag(sub)
    sub.add_argument(
        "--reference", type=path, help=".npz of FID; by default the images themselves"
    )
    sub.add_argument("--name", default="", help="what tables call the model")
    sub.add_argument(
        "--noise_embedding",
        choices=("spatial", "time"),
        help="what the network is conditioned on; time for Cfg. 1 and 2 of the "
        "paper's Table 3",
    )
    add_dry_run_flags(sub)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    where = chips_to_fill_on(args, "output", "data")
    if where is not None:
        _report(args, where)
        return 0
    from rad_jax.runtime import distributed
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores

    methods = _methods(args)
    settings = {method: _settings(args, method, methods) for method in methods}
    use_cpu_cores()
    with distributed.joined():
        from rad_jax.checkpoints.load import load
        from rad_jax.evaluate.evaluate import evaluate, report_lines
        from rad_jax.inference.comparison import prepare_baseline

        enable_compilation_cache()
        model, plain = _models(args, load)
        for each in settings.values():  # refused before the first fills for hours
            if isinstance(each.sampling, Baseline):
                prepare_baseline(plain, each.sampling)
        for method in methods:
            several = len(methods) > 1
            output = args.output / method if several else args.output
            name = f"{args.name} {method}".strip() if several else args.name
            used = plain if method in OTHERS else model
            record = evaluate(used, settings[method], output, name=name)
            if distributed.is_main():
                print(report_lines(record, output))
    return 0


def _models(args: argparse.Namespace, read: Callable) -> "tuple[AnyModel, AnyModel]":
    """What fills by RAD, and by other methods; `read` is `load` or `load_shapes`.

    Raises:
      UserError: a model cannot be read, or is a LaMa and flags are not.
    """
    from rad_jax.checkpoints.model import LamaModel
    from rad_jax.inference.lama import require_one_pass

    model = read(args.model, dtype=args.dtype, noise_embedding=args.noise_embedding)
    if isinstance(model, LamaModel):
        require_one_pass(given=args.given - {"seed"})  # which is the masks', too
    if args.plain_model is None:
        return model, model
    return model, read(args.plain_model, dtype=args.dtype)


def _report(args: argparse.Namespace, where: Slice) -> None:
    """Prints what each method needs of other chips.

    Raises:
      UserError: flags do not go together or do not fit the model, or it is too large.
    """
    methods = [method for method in _methods(args) if method != ORIGINALS]
    if not methods:
        raise UserError("originals are not filled; there is nothing to compile")
    from rad_jax.checkpoints.load import load_shapes
    from rad_jax.inference.dry_run import report
    from rad_jax.inference.for_chips import Batch, share_of

    model, plain = _models(args, load_shapes)
    for method in methods:
        settings = _settings(args, method, methods)
        used = plain if method in OTHERS else model
        total = settings.num_images * settings.files.num_samples
        count = share_of(where, total, settings.files.batch_size)
        side = used.image_size
        print(report(used, settings.sampling, Batch(count, (side, side)), where))


def _methods(args: argparse.Namespace) -> list[str]:
    """The methods that are asked for.

    Raises:
      UserError: there is no such method, or flags do not go together.
    """
    known = ("rad", *OTHERS)
    methods = [x for one in args.method for x in (known if one == "all" else [one])]
    for method in methods:
        require_one_of("method", method, (*known, ORIGINALS, "all"))
    if len(set(methods)) < len(methods) or not methods:
        raise UserError(f"method is {','.join(args.method)}; give each method once")
    if len(methods) > 1 and args.set:
        raise UserError("--set is of one method; give one as --method")
    if args.plain_model is not None and not set(methods) & set(OTHERS):
        raise UserError(
            f"--plain_model is for the methods {', '.join(OTHERS)}; give one as "
            "--method, or all"
        )
    return methods


def _settings(
    args: argparse.Namespace, method: str, methods: Sequence[str]
) -> Evaluation:
    originals = method == ORIGINALS
    like_rad = ["rad" if x == ORIGINALS else x for x in methods]
    return Evaluation(
        data=args.data or "",
        data_dir=args.data_dir,
        split=args.split,
        masks=args.masks,
        num_images=args.num_images,
        metrics=args.metrics,
        weights=args.weights,
        reference=args.reference,
        method=ORIGINALS if originals else "rad",
        max_coverage=None if args.any_coverage else MAX_COVERAGE,
        sampling=sampling_of(args, "rad" if originals else method, like_rad),
        files=FileOptions(args.seed, args.num_samples, args.batch_size),
    )
