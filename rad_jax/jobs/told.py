"""What is said of a job at its end: remarks, what was left out, and what it took."""

import sys
import time

from rad_jax.errors import UserError
from rad_jax.files.remarks import Remarks, some
from rad_jax.inference.canvas import Outcome

MOST_LINES = 100
"""Of pictures that are left out; the manifest has all."""


class Told:
    """Counts outcomes, and remembers what is to be said of them."""

    def __init__(self, remarks: Remarks):
        """Of none yet; with remarks that there are already."""
        self.remarks = remarks
        self.done, self.failed = 0, 0
        self._unfilled: list[str] = []
        self._no_hole = 0
        self._start = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Takes in what has become of a picture."""
        for path, remark in outcome.remarks:
            self.remarks.add(path, remark)
        if outcome.error:
            self.leave_out(outcome.item.name, outcome.error)
            return
        self.done += 1
        if not outcome.strategies and outcome.pair:
            self._no_hole += 1
            if len(self._unfilled) < MOST_LINES:
                self._unfilled.append(str(outcome.pair.image))

    def leave_out(self, name: str, error: UserError) -> None:
        """Says at once what has no result, and why."""
        self.failed += 1
        if self.failed <= MOST_LINES:
            print(f"left out {name}: {error}", file=sys.stderr)
        elif self.failed == MOST_LINES + 1:
            print("left out more: the manifest has them", file=sys.stderr)

    def say(self, where: object, files: int, idle: float | None, kept: str) -> None:
        """Prints the rest.

        Args:
            where: the results are.
            files: that were written.
            idle: share of the time in which the device waited.
            kept: what was finished before, or "".
        """
        for line in self.remarks.lines():
            print(line)
        if self._no_hole:
            names = some(
                sorted(self._unfilled), more=self._no_hole - len(self._unfilled)
            )
            count = f"{self._no_hole} of {self.done + self.failed} masks have no hole"
            print(f"{count}; written as they are: {names}")
        if kept:
            print(f"{where}: {kept}")
        if files:
            seconds = time.monotonic() - self._start
            each = f"{files} images, {seconds / files:.3g} s per image"
            waited = "" if idle is None else f"; the device idled {idle:.0%} of it"
            print(f"{where}: {each}{waited}")
