"""``rad-jax VERB --help``: at once, and with the default of every flag."""

import argparse
import subprocess
import sys

import pytest

from rad_jax.cli.arguments import Parser
from rad_jax.cli.main import VERBS
from rad_jax.diffusion.options import GRID, SAMPLER, STEPS

PROGRAM = """
import sys
from rad_jax.cli.main import main

try:
    main([sys.argv[1], "--help"])
finally:
    slow = {"jax", "flax", "numpy"} & sys.modules.keys()
    assert not slow, slow
"""


def flags_with_defaults(verb):
    """Option and default of each flag that has one."""
    sub = Parser()
    VERBS[verb].add_flags(sub)
    for action in sub._actions:
        given = action.default is not None and action.default is not False
        if given and action.default not in ("", argparse.SUPPRESS):
            yield action.option_strings[0], action.default


@pytest.mark.parametrize("verb", VERBS)
def test_help_imports_no_jax_and_names_defaults(verb):
    """JAX and NumPy take seconds to import."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, verb],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: rad-jax {verb} ")
    options = done.stdout.partition("\noptions:")[2].partition("\n\n")[0]
    described = [text.split() for text in options.split("\n  -")]
    helps = {f"-{words[0]}": " ".join(words) for words in described if words}
    for option, default in flags_with_defaults(verb):
        assert helps[option].endswith(f"(default: {default})")


def test_defaults_that_are_worth_knowing():
    """Those that `flags_with_defaults` must find, as help names them."""
    assert {
        "--batch_size": 16,
        "--seed": 0,
        "--eta": 0.0,
    }.items() <= dict(flags_with_defaults("inpaint")).items()


@pytest.mark.parametrize("verb", ["inpaint", "evaluate"])
def test_defaults_that_the_model_has_are_said_in_words(verb):
    sub = Parser()
    VERBS[verb].add_flags(sub)
    helps = {action.option_strings[0]: action.help for action in sub._actions}
    for flag, default in {"steps": STEPS, "sampler": SAMPLER, "grid": GRID}.items():
        text = helps[f"--{flag}"] or ""
        assert f"by default {default}" in text and "distilled" in text
