"""How far long work is: a bar on a terminal, plain lines in a log file."""

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Generic, TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_PER_LINE = 10.0


@dataclasses.dataclass
class progress(Generic[T]):  # lower case: used as a function, like tqdm
    """Wraps an iterable so that a loop over it shows its progress on stderr.

    A terminal gets a bar. Anything else gets a line every 10 seconds at most, and a
    last one when the loop ends, however it ends. An item counts as done when the loop
    asks for the next one.

    Attributes:
        iterable: what to loop over.
        total: items in all, counting ``initial``; by default from the iterable's
            length, or unknown.
        desc: what is going on, e.g. ``"train"``.
        unit: what an item is, e.g. ``"img"``.
        initial: items done before, e.g. by the run that this one resumes.
        quiet: shows nothing, where another process shows it.
    """

    iterable: Iterable[T]
    _: dataclasses.KW_ONLY
    total: int | None = None
    desc: str
    unit: str
    initial: int = 0
    quiet: bool = False
    postfix: str = dataclasses.field(default="", init=False)

    def __post_init__(self):
        """Finds the total."""
        if self.total is None and isinstance(self.iterable, Sized):
            self.total = self.initial + len(self.iterable)

    def set_postfix(self, **values: float | str) -> None:
        """Sets what the next bar or line ends with, e.g. ``loss=0.12, lr=0.001``."""
        self.postfix = ", ".join(
            f"{name}={value if isinstance(value, str) else format(value, '.4g')}"
            for name, value in values.items()
        )

    def __iter__(self) -> Iterator[T]:
        """Yields the items."""
        if self.quiet:
            return iter(self.iterable)
        return self._with_bar() if sys.stderr.isatty() else self._with_lines()

    def _with_bar(self) -> Iterator[T]:
        with tqdm(
            total=self.total,
            initial=self.initial,
            desc=self.desc,
            unit=f" {self.unit}",
            dynamic_ncols=True,
        ) as bar:
            for item in self.iterable:
                yield item
                bar.set_postfix_str(self.postfix, refresh=False)
                bar.update()

    def _with_lines(self) -> Iterator[T]:
        start = last = time.monotonic()
        done = 0
        try:
            for item in self.iterable:
                yield item
                done += 1
                if (now := time.monotonic()) - last >= SECONDS_PER_LINE:
                    last = now
                    print(self._line(done, now - start), file=sys.stderr, flush=True)
        finally:
            seconds = time.monotonic() - start
            print(self._line(done, seconds), file=sys.stderr, flush=True)

    def _line(self, done: int, seconds: float) -> str:
        """One line; its rate leaves ``initial`` out."""
        count, rate = self.initial + done, done / max(seconds, 1e-9)
        parts = [f"{count} {self.unit}", f"{rate:.3g} {self.unit}/s"]
        if self.total is not None:
            parts[0] = f"{count}/{self.total} {self.unit}"
            eta = tqdm.format_interval((self.total - count) / rate) if rate else "?"
            parts.append(f"ETA {eta}")
        return f"{self.desc}: " + ", ".join(filter(None, [*parts, self.postfix]))
