"""Checkpoints of score-based SDE networks: their markers, and averages without names.

The program in PyTorch keeps the averages as a list of the trainable parameters, in the
order in which the network's state dict has them. Names are given to them here.
"""

from collections.abc import Mapping
from typing import Any

from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.find import Chosen, Weights
from rad_jax.weight_files.lazy_array import Span

SIGMAS = "sigmas"
"""A table of the process, which the state dict has beside the weights."""

FREQUENCIES = "all_modules.0.W"
"""Of the Fourier features, which are not trained and have no average."""

FIRST = (FREQUENCIES, "all_modules.0.weight")
"""What the first module has: Fourier features, or else a linear layer."""

MARKERS = (
    *((first, SIGMAS) for first in FIRST),
    ("Conv_0/kernel", "Dense_0/kernel"),
)
"""Keys that every such network has in PyTorch, and in Flax."""

MODEL = ("model",)
AVERAGES = ("ema", "shadow_params")
"""Names under which a checkpoint has the weights, and the list of their averages."""

INSTEAD = "; --key model takes the weights that are not averaged"


def with_averages(tree: Any, found: list[Weights], name: str | None) -> list[Weights]:
    """Weights that were found in a file, and those of its list of averages.

    Args:
      tree: what the file holds.
      found: in it, by their markers.
      name: as in `find.choose`; a list that is not asked for may be a damaged one.

    Raises:
      BadFile: the list does not fit the model beside it.
    """
    averages = tree
    for each in AVERAGES:
        averages = averages.get(each) if type(averages) is dict else None
    models = [each for each in found if each.path == MODEL and _is_ours(each)]
    if type(averages) is not list or not models:
        return found
    try:
        spans = _named(averages, _without_prefix(models[0]))
    except BadFile:
        whole = ".".join((*AVERAGES, ""))
        if name is None or whole.startswith(f"{name.rstrip('.')}."):
            raise
        return found
    return [*found, Weights(AVERAGES, "", {key: key for key in spans}, spans)]


def _is_ours(weights: Weights) -> bool:
    return _has_sigmas(_without_prefix(weights))


def _has_sigmas(keys: Mapping[str, Any]) -> bool:
    return SIGMAS in keys and any(first in keys for first in FIRST)


def _without_prefix(weights: Weights) -> dict[str, Span]:
    return {
        key.removeprefix(weights.prefix): weights.spans[original]
        for key, original in weights.keys.items()
        if key.startswith(weights.prefix)
    }


def _named(averages: list[Any], model: Mapping[str, Span]) -> dict[str, Span]:
    """The averages by key, and the frequencies, which have none."""
    trained = [key for key in model if key not in (SIGMAS, FREQUENCIES)]
    place = ".".join(AVERAGES)
    if len(averages) != len(trained):
        raise BadFile(
            f"has {len(averages)} averages in {place}, but {len(trained)} trained "
            f"parameters in {MODEL[0]}{INSTEAD}"
        )
    by_key = dict(zip(trained, averages, strict=True))
    for key, span in by_key.items():
        if type(span) is not Span:
            raise BadFile(f"has no array in {place} for {shown(key)}{INSTEAD}")
        if span.shape != model[key].shape:
            raise BadFile(
                f"has the shape {span.shape} in {place} for {shown(key)}, whose shape "
                f"is {model[key].shape}{INSTEAD}"
            )
    # In the order of the model.
    return {key: by_key.get(key, model[key]) for key in model if key != SIGMAS}


def without_sigmas(chosen: Chosen) -> Chosen:
    """The weights without the table of the process; those of other networks as is."""
    if not _has_sigmas(chosen.keys):
        return chosen
    return chosen._replace(
        keys={key: original for key, original in chosen.keys.items() if key != SIGMAS},
        spans={key: span for key, span in chosen.spans.items() if key != SIGMAS},
        notes=[*chosen.notes, f"left out: {SIGMAS}, which are no weights"],
    )
