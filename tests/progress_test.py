import io
import re
import time

import pytest

from rad_jax.progress import progress


class Clock:
    """Stands in for ``time.monotonic``; tests move it."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_log_gets_a_line_each_ten_seconds_and_a_last_one(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    seen = []
    for item in progress(range(25), desc="prepare", unit="img"):
        seen.append(item)
        clock.now += 1.0
    assert seen == list(range(25))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "prepare: 10/25 img, 1 img/s, ETA 00:15",
        "prepare: 20/25 img, 1 img/s, ETA 00:05",
        "prepare: 25/25 img, 1 img/s, ETA 00:00",
    ]


def test_fast_loop_logs_its_last_line_only(capsys):
    list(progress(range(1000), desc="read", unit="img"))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_resumed_loop_counts_from_initial_but_rates_its_own_items(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    for _ in progress(iter(range(8)), total=40, desc="train", unit="step", initial=20):
        clock.now += 2.0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "train: 28/40 step, 0.5 step/s, ETA 00:24"


def test_length_is_added_to_initial(capsys):
    list(progress(range(5), desc="x", unit="it", initial=10))
    assert "15/15 it" in capsys.readouterr().err


def test_without_a_total_there_is_no_eta(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    for _ in progress(iter("abc"), desc="x", unit="it"):
        clock.now += 1.0
    assert capsys.readouterr().err == "x: 3 it, 1 it/s\n"


def test_last_line_comes_also_when_the_loop_breaks_off(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        for item in progress([2, 1, 0], desc="x", unit="it"):
            clock.now += 1.0
            _ = 1 / item
    assert capsys.readouterr().err == "x: 2/3 it, 0.667 it/s, ETA 00:01\n"


def test_postfix_ends_the_line(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    bar = progress(range(2), desc="train", unit="step")
    for step in bar:
        bar.set_postfix(loss=0.123456 / (step + 1), state="ok")
        clock.now += 1.0
    assert capsys.readouterr().err.endswith("ETA 00:00, loss=0.06173, state=ok\n")


def test_terminal_gets_a_bar_with_rate_and_eta(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = progress(range(30), total=40, desc="train", unit="step", initial=10)
    seen = []
    for item in bar:
        seen.append(item)
        bar.set_postfix(loss=0.5)
        time.sleep(0.005)
    assert seen == list(range(30))
    text = terminal.getvalue()
    assert text.count("\r") > 2, "the bar is not redrawn in place"
    last = text.split("\r")[-1]
    assert re.match(r"train: 100%\|.*\| 40/40 \[.*<00:00, .* step/s, loss=0.5\]", last)
