"""Which comparison method, and how, as asked for; importable without JAX."""

import dataclasses
from collections.abc import Sequence

from rad_jax.diffusion.options import require_at_least, require_one_of
from rad_jax.errors import UserError

METHODS = ("score_sde", "ddrm", "repaint", "mcg", "ddnm", "deqir")
PRESETS = ("fair", "published", "mcg")
"""Known pixels pasted and needless defects mended; what the official programs do; and
of RePaint alone the form that MCG's authors ran."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A comparison method.

    Attributes:
      method: one of `METHODS`.
      preset: its settings to begin with, one of `PRESETS`.
      nfe: network evaluations per image at most, which sets its steps; None for the
        preset's.
      settings: names and values of single settings, as written.
      label: what the images show, a class of the model; None for those without.

    Raises:
      UserError: there is no such method, preset or number; a setting's name and value
        are looked at where the method is prepared.
    """

    method: str
    preset: str = "fair"
    nfe: int | None = None
    settings: tuple[tuple[str, str], ...] = ()
    label: int | None = None

    def __post_init__(self):
        """Refuses what no method has."""
        require_one_of("method", self.method, METHODS)
        of_method = PRESETS if self.method == "repaint" else PRESETS[:2]
        require_one_of(f"preset of {self.method}", self.preset, of_method)
        if self.nfe is not None:
            require_at_least("nfe", self.nfe, 1)
            if "steps" in dict(self.settings):
                raise UserError("nfe and the setting steps say the same; give one")


def parse_settings(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names and values of ``name=value`` texts.

    Raises:
      UserError: a text is none, or a name comes twice.
    """
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"set is {text!r}; give KEY=VALUE, such as steps=50")
        if name in dict(pairs):
            raise UserError(f"set gives {name} twice; give it once")
        pairs.append((name, value))
    return tuple(pairs)
