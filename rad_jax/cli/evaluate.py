"""``rad-jax evaluate``."""

import argparse

from rad_jax.cli.arguments import (
    Parser,
    add_any_coverage_flag,
    add_data_flags,
    add_model_flags,
    add_sampling_flags,
    add_weights_flag,
    count,
    names,
    path,
)
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.evaluate.settings import METHODS, Evaluation
from rad_jax.inference.file_options import FileOptions
from rad_jax.masks.kinds import KINDS, MAX_COVERAGE

HELP = "Fill held-out images, and score the fillings."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    add_model_flags(sub)
    sub.add_argument("--output", type=path, required=True, help="folder of its own")
    add_data_flags(sub)
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
        default=Evaluation.method,
        help=f"{' or '.join(METHODS)}: the images themselves, for the FID floor",
    )
    add_sampling_flags(sub)
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


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.runtime import distributed
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores

    settings = Evaluation(
        data=args.data,
        data_dir=args.data_dir,
        split=args.split,
        masks=args.masks,
        num_images=args.num_images,
        metrics=args.metrics,
        weights=args.weights,
        reference=args.reference,
        method=args.method,
        max_coverage=None if args.any_coverage else MAX_COVERAGE,
        sampling=SamplingOptions(args.steps, args.sampler, args.grid),
        files=FileOptions(args.seed, args.num_samples, args.batch_size),
    )
    use_cpu_cores()
    with distributed.joined():
        from rad_jax.checkpoints.load import load
        from rad_jax.checkpoints.model import LamaModel
        from rad_jax.evaluate.evaluate import evaluate, report_lines
        from rad_jax.inference.lama import require_one_pass

        enable_compilation_cache()
        model = load(args.model, dtype=args.dtype, noise_embedding=args.noise_embedding)
        if isinstance(model, LamaModel):
            require_one_pass(given=args.given - {"seed"})  # which is the masks', too
        record = evaluate(model, settings, args.output, name=args.name)
        if distributed.is_main():
            print(report_lines(record, args.output))
    return 0
