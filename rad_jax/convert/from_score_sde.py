"""Weights of score_sde, of either of its programs, to a model and back to a file."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rad_jax.checkpoints.model import Model
from rad_jax.convert.score_sde import entries, flax_names
from rad_jax.convert.sde_presets import SDE_PRESETS, SDEPreset
from rad_jax.errors import UserError
from rad_jax.files.remarks import some
from rad_jax.models.ncsnpp_config import NCSNppConfig
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table, score_sde
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.name_table import Entry, Layout

TORCH, FLAX = "score_sde", "score_sde (Flax)"
"""Layouts: of the program in PyTorch, and of that in Flax."""

MOST_SHOWN = 3

LAYER_1X1 = Layout(lambda x: x[0, 0], lambda x: (x[None, None],))
"""(1, 1, in, out) to (in, out)."""

OURS = {
    name_table.CONV: name_table.SAME,
    name_table.LINEAR: name_table.SAME,
    name_table.POINTWISE_2D: LAYER_1X1,
}
"""Layouts of the program in Flax, by those of the one in PyTorch."""


def layout_of(keys: Iterable[str]) -> str | None:
    """Which program's keys these are; None: of neither."""
    found = set(keys)
    if found & set(score_sde.FIRST):
        return TORCH
    return FLAX if found.issuperset(score_sde.MARKERS[-1]) else None


def flax_entries(config: NCSNppConfig) -> list[Entry]:
    """`score_sde.entries` for the program in Flax."""
    names = flax_names(config)
    return [
        dataclasses.replace(
            entry,
            keys=tuple(names[key] for key in entry.keys),
            layout=OURS.get(entry.layout, entry.layout),
        )
        for entry in entries(config)
    ]


TABLES = {TORCH: entries, FLAX: flax_entries}


def model_of(
    layout: str, shapes: Mapping[str, Sequence[int]], preset: str | None
) -> Model:
    """The model of a published checkpoint, without parameters.

    Args:
      layout: of the file, `TORCH` or `FLAX`.
      shapes: of its arrays, by key.
      preset: its name.

    Raises:
      UserError: there is no such preset, or it is of another network: naming those that
        fit.
    """
    if preset is not None and preset not in SDE_PRESETS:
        raise UserError(
            f"{shown(preset)} is no preset of score_sde; there are "
            f"{', '.join(SDE_PRESETS)}"
        )
    if preset is None:
        raise UserError(
            "is of score_sde, whose files do not say which network and process they "
            f"are of: give a preset{_fitting(layout, shapes)}"
        )
    found = SDE_PRESETS[preset]
    if wrong := _difference(layout, found, shapes):
        raise UserError(
            f"does not match preset {preset}: {wrong}{_fitting(layout, shapes)}"
        )
    return Model(found.config, found.schedule, found.parametrisation, {})


def _expected(layout: str, preset: SDEPreset) -> dict[str, tuple[int, ...]]:
    table = TABLES[layout](preset.config)
    return name_table.file_shapes(table, abstract_params(preset.config))


def _difference(
    layout: str, preset: SDEPreset, shapes: Mapping[str, Sequence[int]]
) -> str:
    """In what a file is not of a preset; "" if in nothing."""
    expected = _expected(layout, preset)
    given = {key: tuple(shape) for key, shape in shapes.items()}
    missing, more = expected.keys() - given.keys(), given.keys() - expected.keys()
    if missing or more:
        return (
            f"it has {len(given)} arrays, of which {len(more)} are not the preset's, "
            f"and lacks {len(missing)} of its {len(expected)}"
        )
    wrong = [key for key, shape in expected.items() if given[key] != shape]
    texts = [f"{key} is {given[key]}, the preset's {expected[key]}" for key in wrong]
    return some(texts, MOST_SHOWN)


def _fitting(layout: str, shapes: Mapping[str, Sequence[int]]) -> str:
    """What a message says of the presets that fit."""
    keys, table = set(shapes), TABLES[layout]
    names = [
        name
        for name, preset in SDE_PRESETS.items()
        # Shapes take a second each: for those whose names agree.
        if {key for entry in table(preset.config) for key in entry.keys} == keys
        and not _difference(layout, preset, shapes)
    ]
    return f"; presets that fit: {', '.join(names)}" if names else "; no preset fits"
