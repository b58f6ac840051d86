"""``rad-jax evaluate``: fills the holes of held-out images, and scores the fillings."""

import dataclasses
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from rad_jax.checkpoints.model import AnyModel, Model
from rad_jax.data.splits import load_split, require_count
from rad_jax.errors import UserError
from rad_jax.evaluate.fills import NOTHING, Cost, Task, fill_holes, filler, read_fills
from rad_jax.evaluate.mask_sets import check_masks, mask_set, name_of
from rad_jax.evaluate.protocol import RESULTS, Protocol, claim, protocol_of
from rad_jax.evaluate.scores import Scorer, Scores, scorers, summarise
from rad_jax.evaluate.settings import Evaluation, default_metrics
from rad_jax.files.atomic import atomic_write
from rad_jax.files.contact_sheet import contact_sheet, grey_holes
from rad_jax.files.pictures import save_png
from rad_jax.files.pixel_ranges import to_float
from rad_jax.inference.comparison import cfg_1_note
from rad_jax.metrics.digits import Classifier
from rad_jax.metrics.reference import read_reference
from rad_jax.progress import progress
from rad_jax.runtime import distributed
from rad_jax.runtime.batching import balanced_batch_size, batch_rows
from rad_jax.runtime.machine import versions

SHEET = "contact_sheet.png"
SHOWN = 4  # images of each kind, and fillings of each, in the contact sheet
TILE = 64  # pixels that small images are enlarged to there
SCORED = 32  # images scored at once


def evaluate(
    model: AnyModel,
    settings: Evaluation,
    output: Path,
    *,
    name: str = "",
) -> dict[str, Any]:
    """Fills, scores, and writes pictures, `RESULTS` and a contact sheet.

    A filling that is there is not made again: the same call resumes what was
    interrupted. Of several processes each does its part; they need one ``output``.

    Args:
      model: what fills.
      settings: on which images, and what is measured.
      output: folder of this evaluation alone.
      name: what tables call the model.

    Returns:
      What was written as JSON.

    Raises:
      UserError: something does not fit, is missing, or is not finite.
    """
    # 1. What does not fit is refused before anything is filled.
    groups = settings.metrics or default_metrics(settings.data)
    reference = (
        None if settings.reference is None else read_reference(settings.reference)
    )
    images, labels = _held_out(model, settings)
    protocol = protocol_of(model, settings)
    note = cfg_1_note(model) if isinstance(model, Model) else None
    if note and protocol.method == "rad":
        distributed.say(note)
    check_masks(settings.masks, protocol)
    fill = filler(model, settings.sampling)
    score = scorers(
        groups, weights=settings.weights, classifier=_classifier(groups, settings)
    )
    # 2. One folder for all processes, which divide the images.
    if distributed.is_main():
        claim(output, protocol)
    distributed.from_main(np.zeros(()))  # the folder is there
    mine = range(jax.process_index(), len(images), jax.process_count())
    # 3. Fill and score, one kind of masks after the other.
    found, rows = {}, []
    for masks in settings.masks:
        kind, holes = name_of(masks), mask_set(protocol, masks)
        task = Task(protocol, output, kind, images, labels, holes)
        cost = fill_holes(fill, task, mine, settings.files.batch_size)
        began = time.monotonic()
        scores = _of_all(_scores(score, task, mine), len(images))
        found[kind] = summarise(scores, seed=protocol.seed, reference=reference)
        scoring = (time.monotonic() - began) / (len(images) * protocol.num_samples)
        cost = _cost(output / kind, cost)
        found[kind]["seconds_per_image"] = cost.seconds
        found[kind]["forward_evaluations"] = cost.forward
        found[kind]["backward_evaluations"] = cost.backward
        found[kind]["scoring_seconds_per_image"] = scoring
        if distributed.is_main():
            rows += _rows(task)
    # 4. What was found, and how.
    record = _record(protocol, settings, name, found)
    if distributed.is_main():
        with atomic_write(output / RESULTS) as part:
            part.write_text(json.dumps(record, indent=2) + "\n")
        scale = max(1, TILE // protocol.image_size)
        save_png(contact_sheet(rows, scale=scale), output / SHEET)
    return record


def _held_out(model: AnyModel, settings: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """The images, of the model's size, and their labels."""
    if settings.num_images < jax.process_count():
        raise UserError(
            f"num_images is {settings.num_images}, for {jax.process_count()} "
            "processes; give each an image"
        )
    images, labels = load_split(
        settings.data,
        settings.data_dir,
        settings.held_out_split,
        model.channels,
        image_size=model.image_size,
        most=settings.num_images,
    )
    require_count(
        settings.data, settings.held_out_split, len(images), settings.num_images
    )
    return images, labels


def _classifier(groups: Sequence[str], settings: Evaluation) -> Classifier | None:
    """Fitted to the training digits, if it is wanted and there are any."""
    if "classifier" not in groups or settings.data != "digits":
        return None
    images, labels = load_split(settings.data, settings.data_dir, "train", 1)
    return Classifier(to_float(images), labels)


def _scores(score: Sequence[Scorer], task: Task, mine: Sequence[int]) -> Scores:
    """Of this process's images."""
    parts: list[Scores] = []
    batches = list(batch_rows(len(mine), balanced_batch_size(len(mine), SCORED)))
    quiet = not distributed.is_main()
    for rows in progress(batches, desc=f"score {task.kind}", unit="batch", quiet=quiet):
        chosen = [mine[row] for row in rows]
        batch = (
            to_float(read_fills(task, chosen)),
            to_float(task.images[chosen]),
            task.holes[chosen].astype(np.float32),
            task.labels[chosen],
        )
        parts.append({k: v for each in score for k, v in each(*batch).items()})
    joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    # The last batch was filled up.
    return {name: values[: len(mine)] for name, values in joined.items()}


def _of_all(scores: Scores, count: int) -> Scores:
    """Those of all processes, in the order of the images; all of them must call it."""
    processes = jax.process_count()
    if processes == 1:
        return scores
    rows = -(-count // processes)

    def gather(values: np.ndarray) -> np.ndarray:
        padded = np.resize(values, (rows, *values.shape[1:]))
        gathered = multihost_utils.process_allgather(padded)  # (processes, rows, ...)
        return np.swapaxes(gathered, 0, 1).reshape(-1, *values.shape[1:])[:count]

    return {name: gather(values) for name, values in scores.items()}


def _cost(folder: Path, now: Cost) -> Cost:
    """Of what was made now, or of the run before where now there was too little."""
    path = folder / "cost.json"
    before = NOTHING
    if path.is_file():
        before = Cost(**json.loads(path.read_text()))
    pairs = zip(now, before, strict=True)
    cost = Cost(*(new if new is not None else old for new, old in pairs))
    if cost != before and distributed.is_main():
        with atomic_write(path) as part:
            part.write_text(json.dumps(cost._asdict()) + "\n")
    return cost


def _record(
    protocol: Protocol, settings: Evaluation, name: str, found: Mapping[str, Any]
) -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "name": name or protocol.method,
        "masks": dict(found),
        "protocol": str(protocol),
        "settings": dataclasses.asdict(protocol),
        "metrics": list(settings.metrics or default_metrics(settings.data)),
        "fid_reference": str(settings.reference or "the same images"),
        "versions": versions(),
        "revision": _revision(),
        "hardware": f"{jax.device_count()} x {device.device_kind}",
    }


def report_lines(record: Mapping[str, Any], output: Path) -> str:
    """What a person wants to know at once."""
    lines = [record["protocol"]]
    for kind, scores in record["masks"].items():
        numbers = [
            f"{name} {value['mean'] if isinstance(value, dict) else value:.4g}"
            for name, value in scores.items()
            if name in SAID and value is not None
        ]
        lines.append(f"{kind:8} {', '.join(numbers)}")
        lines += [f"         {warning}" for warning in scores["warnings"]]
    lines += [f"results  {output / RESULTS}", f"picture  {output / SHEET}"]
    return "\n".join(lines)


SAID = (
    "fid",
    "kid",
    "lpips_alex",
    "accuracy",
    "frechet_classifier",
    "psnr_hole",
    "ssim_hole",
    "seam_ratio",
    "known_changed",
    "energy_hole",
    "seconds_per_image",
    "forward_evaluations",
    "backward_evaluations",
    "scoring_seconds_per_image",
)


def _revision() -> str | None:
    """Of the repository that this runs from, if it is one and git is there."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always"]
    try:
        done = subprocess.run(
            [*command, "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _rows(task: Task) -> list[list[np.ndarray]]:
    """Of the contact sheet, the first images: given, filled, original."""
    shown = range(min(SHOWN, len(task.images)))
    filled = read_fills(task, shown)
    given = grey_holes(task.images[shown], task.holes[shown])
    return [[given[i], *filled[i, :SHOWN], task.images[i]] for i in shown]
