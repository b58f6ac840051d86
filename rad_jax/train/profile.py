"""A trace of a few steps, to look at with XProf, TensorBoard or Perfetto."""

import contextlib
from pathlib import Path

import jax

from rad_jax.runtime.distributed import say

WARM_UP = 10
"""Steps before it: the first compiles, the next ones fill the queues."""

STEPS = 3


class Profile:
    """A context manager; asked for, it traces steps into ``WORKDIR/profile``."""

    def __init__(self, workdir: Path, done: int, num_steps: int, *, wanted: bool):
        """Plans which steps.

        Args:
          workdir: of the run.
          done: steps before this process started.
          num_steps: the last one; a short run is traced at its end.
          wanted: whether to do anything.
        """
        self._folder = workdir / "profile"
        end = min(done + WARM_UP + STEPS, num_steps)
        self._steps = range(max(end - STEPS, done) + 1, end + 1) if wanted else range(0)
        self._tracing = False

    def __enter__(self) -> "Profile":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends a trace that was cut short."""
        self._end()

    def step(self, step: int) -> contextlib.AbstractContextManager:
        """Wraps a step: begins and ends the trace, and names the step in it."""
        if step == self._steps.start and self._steps:
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        elif step == self._steps.stop:
            self._end()
        if not self._tracing:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def _end(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.effects_barrier()
            jax.profiler.stop_trace()
            say(f"the trace is in {self._folder}")
