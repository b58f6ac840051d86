"""A polite stop: the run ends between two steps, with a checkpoint."""

import contextlib
import signal
from collections.abc import Iterator


class StopRequest:
    """Whether somebody asked the run to stop, and by which signal."""

    def __init__(self):
        """Nobody did."""
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns the first SIGINT (Ctrl-C) or SIGTERM into a request; a second one kills.

    Only the main thread of a process can do so.
    """
    request = StopRequest()
    handlers = {}

    def ask(number, _frame):
        request.signal = signal.Signals(number)
        for each, old in handlers.items():
            signal.signal(each, old)

    for each in (signal.SIGINT, signal.SIGTERM):
        handlers[each] = signal.signal(each, ask)
    try:
        yield request
    finally:
        for each, old in handlers.items():
            signal.signal(each, old)
