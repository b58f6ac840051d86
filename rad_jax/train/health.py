"""Whether a run can continue: what steps report to the host, read one step late.

The devices always have a step to work on while the host reads what the last one said.
All processes read the same, so that they stop in the same step.
"""

import jax

from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.train.step import Signals


class Health:
    """Counts steps that were not finite, and passes on the wish to stop."""

    def __init__(self, max_skipped: int, workdir: AnyPath):
        """Everything is well.

        Args:
          max_skipped: how many steps in a row may be skipped.
          workdir: of the run, for the message.
        """
        self._max_skipped, self._workdir = max_skipped, workdir
        self._last: Signals | None = None
        self._in_a_row = 0

    def check(self, step: int, signals: Signals) -> bool:
        """Reads what the step before this one said.

        Args:
          step: number of this step.
          signals: of this step, read in the next call.

        Returns:
          Whether a process was asked to stop.

        Raises:
          UserError: too many steps in a row were not finite.
        """
        last, self._last = self._last, signals
        if last is None:
            return False
        finite, stop = jax.device_get(last)
        self._in_a_row = 0 if finite else self._in_a_row + 1
        if self._in_a_row >= self._max_skipped:
            raise UserError(
                f"{self._workdir}: in {self._in_a_row} steps in a row, up to step "
                f"{step - 1}, the loss or its gradient was not finite: training has "
                "diverged; saved checkpoints are unaffected, so train on in "
                "another --workdir with a lower optimizer.learning_rate"
            )
        return bool(stop)
