"""Names of slices and GPUs, as their users write them, to what JAX can describe.

Slices of v4, v5p and TPU7x are named by their TensorCores, two a chip; those of v5e and
v6e by their chips. `v5e:4x4` names the shape itself, `2xv5e-16` two slices, joined by
the hosts' network. It imports no JAX.
"""

import dataclasses
import difflib
import math
import re
from typing import Any

from rad_jax.chips.table import CHIPS, Chip
from rad_jax.errors import UserError

SHAPES = {
    2: ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)),
    3: (
        *((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 4, 8)),
        *((4, 8, 8), (8, 8, 8), (8, 8, 16), (8, 16, 16), (16, 16, 16)),
    ),
}
"""Those that Google Cloud gives to a number of chips, by the axes of the network."""

ALIASES = {"v5litepod": "v5e"}

GPUS = ("h100", "h200", "a100", "l4")


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that one program runs on.

    Attributes:
      name: as it was asked for.
      chip: what they are.
      chips: how many, of all slices.
      platform: "tpu" or "cuda", as `jax.experimental.topologies` calls it.
      topology: the name or shape that it takes.
      options: its further arguments.
    """

    name: str
    chip: Chip
    chips: int
    platform: str
    topology: str
    options: dict[str, Any]

    @property
    def devices(self) -> int:
        """As JAX counts them."""
        return self.chips * self.chip.devices


def names() -> list[str]:
    """All that have a name: a shape may be written, too."""
    return [*_slices(), *GPUS]


def find_slice(name: str) -> Slice:
    """The slice, or the GPUs, of a name.

    Args:
      name: v5e-16, v5litepod-16, v4-32, v5e:4x4, 2xv5e-16, h100 or h100x8.

    Raises:
      UserError: there is none of this name; the nearest are named.
    """
    if several := re.fullmatch(r"([1-9]\d*)x(\D.*)", name.lower()):
        return _several(name, int(several[1]), several[2])
    family, _, count = name.lower().partition("-")
    family = ALIASES.get(family, family)
    if found := _slices().get(f"{family}-{count}"):
        return _slice(name, *found)
    if gpus := re.fullmatch(rf"({'|'.join(GPUS)})(?:x([1-9]\d*))?", name.lower()):
        return _gpus(name, gpus[1], int(gpus[2] or 1))
    family, _, shape = name.lower().partition(":")
    chip = _tpus().get(ALIASES.get(family, family))
    if chip and re.fullmatch(r"\d+(x\d+)+", shape):
        return _slice(name, chip, _checked(name, chip, shape))
    near = _nearest(name.lower())
    hint = f"the nearest are {' and '.join(near)}" if near else "use v5e-16 or h100x8"
    raise UserError(
        f"--topology {name} is not known; {hint} (or a shape, such as v5e:4x4)"
    )


def _several(name: str, count: int, one: str) -> Slice:
    """Slices of one kind.

    Raises:
      UserError: there is no such kind, or GPUs are named so.
    """
    try:
        found = find_slice(one)
    except UserError as error:
        raise UserError(f"--topology {name}: {error}") from error
    if found.platform == "cuda":
        raise UserError(
            f"--topology {name}: GPUs have no slices; of {count} hosts: "
            f"{found.chip.name}x{count * found.chip.host}"
        )
    options = found.options | ({"num_slices": count} if count > 1 else {})
    return dataclasses.replace(
        found, name=name, chips=count * found.chips, options=options
    )


def _nearest(name: str) -> list[str]:
    """At most two names that somebody may have meant."""
    family, _, count = name.partition("-")
    family = ALIASES.get(family, family)
    if family in _tpus() and count.isdecimal():
        known = [x for x in _slices() if x.startswith(f"{family}-")]
        return sorted(known, key=lambda x: abs(int(x.split("-")[1]) - int(count)))[:2]
    return difflib.get_close_matches(name, names(), n=2, cutoff=0.5)


def _tpus() -> dict[str, Chip]:
    return {chip.name: chip for chip in CHIPS if chip.axes}


def _slices() -> dict[str, tuple[Chip, tuple[int, ...]]]:
    """Chip and shape of every name."""
    return {
        f"{chip.name}-{math.prod(shape) * chip.cores}": (chip, shape)
        for chip in _tpus().values()
        for shape in SHAPES[chip.axes]
        if math.prod(shape) <= chip.pod
    }


def _checked(name: str, chip: Chip, text: str) -> tuple[int, ...]:
    """A shape that somebody wrote.

    Raises:
      UserError: the chips do not come in such a shape.
    """
    shape = tuple(map(int, text.split("x")))
    example = "x".join(map(str, SHAPES[chip.axes][3]))
    if len(shape) != chip.axes:
        raise UserError(
            f"--topology {name}: {chip.name} has {chip.axes} axes, such as "
            f"{chip.name}:{example}"
        )
    # A host has 2 x 2 chips, but where the slice is one chip.
    whole = set(shape) == {1} or not (shape[0] % 2 or shape[1] % 2)
    if not whole or not 0 < math.prod(shape) <= chip.pod:
        raise UserError(
            f"--topology {name}: hosts are 2 x 2 chips, and {chip.pod} the most of a "
            f"{chip.name} slice; such as {chip.name}:{example}"
        )
    return shape


def _slice(name: str, chip: Chip, shape: tuple[int, ...]) -> Slice:
    options: dict[str, Any] = {}
    if chip.name == "v4":  # one device a chip, as on Cloud
        options["chip_config_name"] = "megacore"
    if math.prod(shape) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    wrap = _wrap(shape)
    if any(wrap):
        options["wrap"] = wrap
    topology = f"{chip.name}:{'x'.join(map(str, shape))}"
    return Slice(name, chip, math.prod(shape), "tpu", topology, options)


def _wrap(shape: tuple[int, ...]) -> tuple[bool, bool, bool]:
    """Along which axes the last chip is wired to the first."""
    if len(shape) == 2:  # the pod is 16 x 16
        return shape[0] == 16, shape[1] == 16, False
    whole = all(n % 4 == 0 for n in shape)  # of cubes of 4 x 4 x 4
    return whole, whole, whole


def _gpus(name: str, kind: str, count: int) -> Slice:
    """GPUs in hosts of eight.

    Raises:
      UserError: they fill no whole number of hosts.
    """
    chip = next(chip for chip in CHIPS if chip.name == kind)
    if count > chip.host and count % chip.host:
        raise UserError(
            f"--topology {name}: give up to {chip.host} GPUs, or a multiple of it"
        )
    here = min(count, chip.host)
    shape = f"1x{count // here}x{here}"  # slices, hosts, GPUs of a host
    return Slice(name, chip, count, "cuda", kind, {"topology": shape})
