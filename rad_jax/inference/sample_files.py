"""Samples of a model as PNG files."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from rad_jax.checkpoints.model import Model, check_labels
from rad_jax.diffusion.generation_options import GenerationOptions
from rad_jax.errors import UserError
from rad_jax.files.collect import files_by_name, one_each
from rad_jax.files.contact_sheet import contact_sheet
from rad_jax.files.decode import SUFFIXES, picture_size
from rad_jax.files.destination import require_writable
from rad_jax.files.pictures import (
    Picture,
    model_input,
    read_picture,
    save_png,
    write_picture,
)
from rad_jax.files.pixel_ranges import to_truncated_bytes
from rad_jax.files.remarks import Remarks
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.generate import (
    adm_sampler,
    check_low_res,
    enlarge,
    prepare_generate,
)
from rad_jax.inference.results import png_text, require_finite
from rad_jax.models.network import NetworkConfig
from rad_jax.progress import progress
from rad_jax.runtime.batching import balanced_batch_size
from rad_jax.runtime.memory import Call, RetryOnOOM
from rad_jax.typing import Images

SHEET = "contact_sheet.png"
SHEET_TILES = 64
TILE_PIXELS = 64

Classes = Int[np.ndarray, " n"]
Numbers = Int[np.ndarray, " b"]


class _Outputs(NamedTuple):
    """Files of the samples, and of the picture of all if they are in a folder."""

    samples: list[Path]
    sheet: Path | None


def sample_files(
    model: Model,
    output: Path,
    options: GenerationOptions,
    files: FileOptions,
    low_res: Path | None = None,
) -> None:
    """Draws samples, as guided-diffusion does, and writes them as PNG files.

    A folder gets 0000.png, 0001.png, ... and contact_sheet.png with the first of them.
    A sample depends on the seed and on its number, not on the batch size.

    Args:
      model: from ``load``.
      output: a new or empty folder, or FILE.png if there is one sample.
      options: timesteps, sampler, how many and of which classes.
      files: the seed and how many at once. To overwrite is to replace files of the same
        names, and to write into a folder with others.
      low_res: for an upsampler, a picture or a folder of them, over and over.

    Raises:
      UserError: something does not fit the model; a low-resolution picture cannot be
        read; the output exists or cannot be written; the model gives no numbers.
    """
    # 1. What does not fit is refused before anything is drawn.
    classes, seed = options.classes, files.seed
    sampler = adm_sampler(model, options.sampler, options.eta)
    prepare = prepare_generate(model, options.respacing, sampler)
    pictures = _pictures(model.config, low_res, output)
    count = options.num_samples or max(len(pictures), len(classes or ()), 1)
    labels = _labels(model.config, classes, count, seed)
    outputs = _outputs(output, count, files.overwrite, pictures)
    if labels is not None and classes is None:
        first = ", ".join(map(str, labels[:SHEET_TILES]))
        print(f"classes drawn: {first}{', ...' if count > SHEET_TILES else ''}")

    # 2. A sample is drawn from the seed and its number.
    def prepare_numbered(numbers: Numbers) -> Call:
        fold_in = jax.vmap(jax.random.fold_in, (None, 0))
        return prepare(
            fold_in(jax.random.key(seed), jnp.asarray(numbers)),
            None if labels is None else jnp.int32(labels[numbers]),
            _read_low_res(model.config, pictures, numbers),
        )

    name = f"{options.sampler}, respacing {options.respacing}"
    texts = [
        png_text(name, seed, label)
        for label in ([None] * count if labels is None else labels.tolist())
    ]
    _draw_all(RetryOnOOM(prepare_numbered), outputs, texts, files.batch_size)


def _pictures(config: NetworkConfig, low_res: Path | None, output: Path) -> list[Path]:
    """Low-resolution pictures, whose sizes fit."""
    if low_res is None:
        check_low_res(config, None)
        return []
    remarks = Remarks()
    pictures = list(
        one_each(files_by_name(low_res, remarks, [output]), low_res).values()
    )
    for line in remarks.lines():
        print(line)
    for path in pictures:
        size = picture_size(path)
        try:
            check_low_res(config, size)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return pictures


def _labels(
    config: NetworkConfig, classes: Sequence[int] | None, count: int, seed: int
) -> Classes | None:
    """A class for each sample; without a choice, one from its seed and number."""
    if classes is not None or config.num_classes is None:
        given = None if classes is None else np.array(classes)
        check_labels(config, given)
        return None if given is None else np.resize(given, count)
    return np.array(
        [
            np.random.default_rng((seed, number)).integers(config.num_classes)
            for number in range(count)
        ]
    )


def _outputs(
    output: Path, count: int, overwrite: bool, inputs: Sequence[Path]
) -> _Outputs:
    """Where the results go, after a look whether they can and may go there."""
    if output.is_dir() or output.suffix.lower() not in SUFFIXES:
        digits = max(4, len(str(count - 1)))
        samples = [output / f"{i:0{digits}d}.png" for i in range(count)]
        outputs = _Outputs(samples, output / SHEET)
    elif count > 1:
        raise UserError(f"{output}: {count} samples need a folder; give its name")
    elif output.suffix.lower() != ".png":
        name = output.with_suffix(".png").name
        raise UserError(f"{output}: samples are .png files; name it {name}")
    else:
        outputs = _Outputs([output], None)
    require_writable(outputs.samples[0].parent)
    if not overwrite and output.exists() and not _is_empty_folder(output):
        raise UserError(f"{output}: exists; choose another output, or --overwrite")
    sources = {path.resolve() for path in inputs}
    if any(path and path.resolve() in sources for path in (*outputs[0], outputs[1])):
        raise UserError(f"{output}: would overwrite an input; choose another output")
    return outputs


def _is_empty_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not any(path.iterdir())
    except OSError as error:
        raise UserError(f"{path}: cannot be listed ({error.strerror})") from error


def _read_low_res(
    config: NetworkConfig, pictures: Sequence[Path], numbers: Numbers
) -> Images | None:
    """The samples' low-resolution pictures, enlarged: they may differ in size."""
    if not pictures:
        return None
    images = []
    for number in numbers:
        picture = read_picture(pictures[number % len(pictures)])
        image = jnp.asarray(model_input(picture, config.out_channels))
        images.append(enlarge(image[None], config.image_size)[0])
    return jnp.stack(images)


def _draw_all(
    draw: Callable[[Numbers], np.ndarray],
    outputs: _Outputs,
    texts: Sequence[Mapping[str, str]],
    batch_size: int,
) -> None:
    """Draws and writes batch by batch, then the sheet, and says where it all is."""
    count = len(outputs.samples)
    length = balanced_batch_size(count, batch_size)
    start = time.monotonic()
    shown = []
    for first in progress(range(0, count, length), desc="sample", unit="batch"):
        numbers = np.arange(first, first + length)
        images = draw(np.minimum(numbers, count - 1))
        for number, image in zip(numbers[: count - first], images, strict=False):
            path = outputs.samples[number]
            require_finite(image, path)
            samples = to_truncated_bytes(image)
            write_picture(path, samples, Picture(samples), texts[number])
            if number < SHEET_TILES:
                shown.append(samples)
    seconds = time.monotonic() - start
    if outputs.sheet is None:
        print(f"{outputs.samples[0]}: {seconds:.3g} s")
        return
    save_png(_sheet(shown), outputs.sheet)
    folder = outputs.sheet.parent
    print(f"{folder}{os.sep}: {count} images, {seconds / count:.3g} s per image")
    print(f"{outputs.sheet}: what they look like")


def _sheet(tiles: Sequence[np.ndarray]) -> UInt8[np.ndarray, "h w 3"]:
    """Lays samples out in a square; small ones are enlarged."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = [tiles[at : at + columns] for at in range(0, len(tiles), columns)]
    return contact_sheet(rows, scale=max(1, TILE_PIXELS // len(tiles[0])))
