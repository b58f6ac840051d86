"""``rad-jax inpaint``."""

import argparse

from rad_jax.baselines.choice import METHODS, Baseline
from rad_jax.chips.slices import Slice
from rad_jax.cli.arguments import (
    Parser,
    add_model_flags,
    count,
    folder,
    names,
    set_up_jax,
)
from rad_jax.cli.chips import add_dry_run_flags, chips_to_fill_on
from rad_jax.cli.sampling_flags import (
    add_method_flags,
    add_sampling_flags,
    add_told_flags,
    sampling_of,
)
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.files.formats import FORMATS, QUALITY
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.strategy import STRATEGIES, StrategyOptions
from rad_jax.jobs.division import parse_division
from rad_jax.jobs.shard_kinds import Columns

HELP = "Fill the holes of an image or a folder of images."
ALPHA = "alpha"


def place(text: str):
    """A file or folder, which may lie in a bucket."""
    return folder(text, ("gs", "s3"))


def mask(text: str):
    """A place, or the word that is none."""
    return text if text == ALPHA else place(text)


def columns(text: str) -> Columns:
    """Names of columns, such as image=jpg,mask=hole."""
    given: dict[str, str] = {}
    for part in names(text):
        name, _, given[name] = part.partition("=")
    wrong = [x for x in given if x not in Columns._fields or not given[x]]
    if wrong or not given:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be some of image=X,mask=Y,id=Z"
        )
    return Columns(**given)


def margins(text: str) -> tuple[int, ...]:
    """Four numbers between commas."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not left,top,right,bottom in pixels, such as 0,0,64,0"
        )
    return tuple(map(int, parts))


def size(text: str) -> tuple[int, int]:
    """Height and width of WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    return count(height), count(width)


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    add_model_flags(sub)
    _add_file_flags(sub)
    _add_division_flag(sub)
    sub.add_argument(
        "--method",
        choices=("rad", *METHODS),
        default="rad",
        help="rad, or one of those that it is compared with, of a plain ADM",
    )
    add_sampling_flags(sub)
    add_method_flags(sub)
    sub.add_argument(
        "--eta",
        type=float,
        default=SamplingOptions.eta,
        help="noise of the sampler ddim, 0 to 1",
    )
    sub.add_argument(
        "--snr",
        type=float,
        default=SamplingOptions.snr,
        help="size of the corrections of the sampler pc, 0 to 1",
    )
    add_told_flags(sub)
    _add_hole_flags(sub)
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
    add_dry_run_flags(sub)
    sub.add_argument(
        "--best_batch",
        action="store_true",
        help="with --dry_run: compile for 1, 2, 4 ... images on each device, up to "
        "--batch_size, and report on those that fill the most in a second",
    )
    sub.add_argument(
        "--size",
        type=size,
        metavar="WIDTHxHEIGHT",
        help="with --dry_run: of the pictures, which are filled as if all of them were "
        "hole; by default the model's own",
    )


def _add_file_flags(sub: Parser) -> None:
    """Which pictures and masks, and what becomes of them."""
    sub.add_argument(
        "--image",
        type=place,
        help="file, folder, or pattern in quotes such as 'in/*.jpg'; also tar, zip, "
        "Parquet and ArrayRecord files with many images each; here or at gs://, s3://",
    )
    sub.add_argument(
        "--mask",
        type=mask,
        help="file, or folder or pattern of files with the images' names; white is "
        "filled. alpha: what is transparent in the image itself (./alpha: a file)",
    )
    sub.add_argument(
        "--mask_pattern",
        metavar="PATTERN",
        help="names of masks, such as '{stem}_mask.png', beside the images or in the "
        "folder --mask; also {name} and {suffix}",
    )
    sub.add_argument(
        "--recursive", action="store_true", help="take folders within folders"
    )
    sub.add_argument("--output", type=place, help="folder, or file for one image")
    sub.add_argument(
        "--columns",
        type=columns,
        metavar="image=X,mask=Y,id=Z",
        help="of Parquet files, and features of ArrayRecord's; by default these names",
    )
    sub.add_argument(
        "--format",
        choices=FORMATS,
        help="of results; by default that of the output's suffix, or png",
    )
    sub.add_argument(
        "--quality",
        type=int,
        help=f"of jpeg, 1 to 100; by default {QUALITY}. Known pixels may change",
    )


def _add_division_flag(sub: Parser) -> None:
    """Which worker of several this is."""
    sub.add_argument(
        "--shard",
        metavar="I/N",
        help="of many images do the part I of N, from 0/N; by default as the variables "
        "of a job array or of several processes say",
    )


def _add_hole_flags(sub: Parser) -> None:
    """What is filled."""
    sub.add_argument("--invert_mask", action="store_true", help="black is filled")
    sub.add_argument(
        "--dilate",
        type=int,
        default=FileOptions.dilate,
        help="pixels that the hole grows by, as by a disc",
    )
    sub.add_argument(
        "--feather",
        type=int,
        default=FileOptions.feather,
        help="pixels of a soft rim within the hole, where its content shows through",
    )
    sub.add_argument(
        "--extend",
        type=margins,
        default=FileOptions.extend,
        metavar="LEFT,TOP,RIGHT,BOTTOM",
        help="pixels of a border that is added and filled; then no mask is needed",
    )
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


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    where = chips_to_fill_on(args, "image", "output")
    if where is None and args.size is not None:
        raise UserError("--size is for --dry_run --topology; pictures have their own")
    if where is None and args.best_batch:
        raise UserError("--best_batch compares what is compiled; add --dry_run")
    sampling = sampling_of(args, args.method)
    files = FileOptions(
        args.seed,
        args.num_samples,
        args.batch_size,
        invert_mask=args.invert_mask,
        opaque_hole=args.opaque_hole,
        recursive=args.recursive,
        mask_pattern=args.mask_pattern,
        alpha_hole=args.mask == ALPHA,
        dilate=args.dilate,
        feather=args.feather,
        extend=args.extend,
        format=args.format,
        quality=args.quality,
    )
    strategy = StrategyOptions(args.strategy, args.context)
    masks = None if files.alpha_hole else args.mask
    division = None if args.shard is None else parse_division(args.shard)
    if where is not None:
        print(_report(args, sampling, files, strategy, where))
        return 0
    from rad_jax.jobs.find_shards import find_shards, require_pictures

    shards = find_shards(args.image, masks, files)
    if shards is None:
        require_pictures(args.image, masks, files)
        if args.columns:
            raise UserError("--columns is for Parquet and ArrayRecord files")
    set_up_jax()
    from rad_jax.checkpoints.load import load
    from rad_jax.jobs.inpaint_command import (
        inpaint_files,
        inpaint_shards,
        prepare_files,
    )

    model = load(args.model, dtype=args.dtype)
    prepared = prepare_files(model, sampling, files, strategy, args.given)
    paths = args.image, masks, args.output
    if shards is None:
        return inpaint_files(prepared, *paths, division)
    named = args.columns or Columns()
    return inpaint_shards(prepared, shards, *paths, named, division)


def _report(
    args: argparse.Namespace,
    sampling: SamplingOptions | Baseline,
    files: FileOptions,
    strategy: StrategyOptions,
    where: Slice,
) -> str:
    """What filling pictures needs of other chips."""
    from rad_jax.checkpoints.load import load_shapes
    from rad_jax.inference.dry_run import report, report_of_best
    from rad_jax.inference.for_chips import batch_of
    from rad_jax.jobs.inpaint_command import prepare_files

    model = load_shapes(args.model, dtype=args.dtype)
    # Options that do not fit the model are refused, as they would be.
    prepare_files(model._replace(params={}), sampling, files, strategy, args.given)
    soft = files.feather > 0
    batch = batch_of(model, sampling, strategy, files.batch_size, args.size, soft)
    of_batch = report_of_best if args.best_batch else report
    return of_batch(model, sampling, batch, where)
