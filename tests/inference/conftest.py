import functools

import pytest

from rad_jax.checkpoints import load


@pytest.fixture(scope="session")
def load_once():
    return functools.cache(load.load)


@pytest.fixture
def inpaint(rad, tiny_run, tmp_path, monkeypatch, load_once):
    """``inpaint("--image", ...)``: exit code, lines of stdout, and of stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "load", load_once)

    def run(*flags):
        flags = ("--model", tiny_run[0], "--steps", 1, *flags)
        if "--strategy" not in flags:
            flags += ("--strategy", "whole")
        code, out, err = rad("inpaint", *flags)
        return code, out.splitlines(), err

    return run
