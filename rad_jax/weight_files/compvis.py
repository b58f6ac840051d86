"""Checkpoints of CompVis's latent diffusion: averages whose names lost their dots.

Beside the weights `model.NAME` a file that is not pruned has their averages as
`model_ema.NAME`, but with no dot in NAME, and two counters. The names are given back
here. What was pruned to its averages has them under the names of the weights.
"""

from collections.abc import Iterable, Mapping

from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.find import Weights

MODEL = "model."
AVERAGES = "model_ema."
COUNTERS = (AVERAGES + "decay", AVERAGES + "num_updates")


def average_keys(keys: Iterable[str]) -> dict[str, str]:
    """Keys that the averages of the weights among these keys have in a file.

    Returns:
      By key of the weights, such as ``model.out.2.bias``: ``model_ema.out2bias``.

    Raises:
      BadFile: two weights would have the same.
    """
    found: dict[str, str] = {}
    for key in keys:
        if key.startswith(MODEL):
            found[key] = AVERAGES + key.removeprefix(MODEL).replace(".", "")
    if len(set(found.values())) < len(found):
        raise BadFile(f"has averages at {AVERAGES}* that are of two weights each")
    return found


def with_averages(found: list[Weights], name: str | None) -> list[Weights]:
    """Weights that were found in a file, and their averages.

    Args:
      found: by their markers.
      name: as in `find.choose`; averages that are not asked for may be damaged.

    Raises:
      BadFile: the averages are not those of the weights.
    """
    added = []
    for each in found:
        if not each.prefix.startswith(MODEL) or not _has_averages(each.spans):
            continue
        try:
            added.append(_averages(each))
        except BadFile:
            whole = ".".join((*each.path, AVERAGES))
            if name is None or whole.startswith(f"{name.rstrip('.')}."):
                raise
    return [*found, *added]


def _has_averages(keys: Iterable[str]) -> bool:
    return any(key.startswith(AVERAGES) and key not in COUNTERS for key in keys)


def _averages(weights: Weights) -> Weights:
    """The averages of weights, in the same dictionary, by names with dots."""
    spans, instead = weights.spans, f"; --key {weights.name} takes the weights"
    stored = average_keys(weights.keys.values())
    names = dict(_names(weights.keys, stored))
    for key, original in weights.keys.items():
        if not key.startswith(weights.prefix):
            continue
        average = stored.get(original)  # none of a key that begins with a wrapper
        if average is None or average not in spans:
            raise BadFile(f"has no average of {shown(original)} at {AVERAGES}{instead}")
        shape, expected = spans[average].shape, spans[original].shape
        if shape != expected:
            raise BadFile(
                f"has an average of the shape {shape} of {shown(original)}, whose "
                f"shape is {expected}{instead}"
            )
    keys = {names.get(x, key): x for key, x in weights.keys.items()}
    prefix = AVERAGES + weights.prefix.removeprefix(MODEL)
    return Weights(weights.path, prefix, keys, spans)


def _names(
    keys: Mapping[str, str], stored: Mapping[str, str]
) -> Iterable[tuple[str, str]]:
    """The key of each average as it is in the file, and with its dots."""
    for key, original in keys.items():
        if original in stored:
            yield stored[original], AVERAGES + key.removeprefix(MODEL)
