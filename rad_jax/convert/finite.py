"""Numbers that are not finite: a network that has one paints nothing."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from flax.traverse_util import flatten_dict

from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath


@dataclasses.dataclass
class FiniteCheck:
    """Looks at arrays on their way to a model or a file.

    Attributes:
      allowed: count numbers that are not finite instead of refusing them.
      found: how many there were, by the array's name.
    """

    allowed: bool = False
    found: dict[str, int] = dataclasses.field(default_factory=dict)

    def look(self, name: str, array: np.ndarray) -> None:
        """Looks at an array as it will be in float32, in which large ones overflow.

        Raises:
          UserError: naming it and how many of its numbers are not finite.
        """
        with np.errstate(over="ignore"):
            finite = np.isfinite(array.astype(np.float32, copy=False))
        count = array.size - int(np.count_nonzero(finite))
        if count and not self.allowed:
            raise UserError(
                f"{name} is NaN or infinite (in float32) in {count:,} of "
                f"{array.size:,} places: the weights are damaged, or their training "
                "diverged; --allow_nonfinite takes them as they are"
            )
        if count:
            self.found[name] = count

    def look_at_all(self, source: AnyPath, arrays: Mapping[str, Any]) -> None:
        """The same of arrays by name; errors begin with where they are from."""
        try:
            for name, array in arrays.items():
                self.look(name, np.asarray(array))
        except UserError as error:
            raise UserError(f"{source}: {error}") from error

    def look_at_params(self, source: AnyPath, params: Mapping[str, Any]) -> None:
        """The same of a tree of parameters."""
        named = cast(dict[tuple, Any], flatten_dict(params)).items()
        self.look_at_all(source, {".".join(map(str, path)): x for path, x in named})

    def report(self) -> None:
        """Prints what was let through, if there was any."""
        if self.found:
            first, *others = self.found
            more = f" and {len(others)} more" if others else ""
            total = sum(self.found.values())
            print(f"taken as they are: {total:,} NaN or infinite in {first}{more}")
