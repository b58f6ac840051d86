"""``rad-jax --print-completion SHELL``: what the shell completes flags with."""

import argparse
import importlib.util

from rad_jax.cli.arguments import config_file, folder, model_place, path
from rad_jax.cli.inpaint import mask, place

SHELLS = ("bash", "zsh", "tcsh")

_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""How shtab writes that files are completed; it is imported when it is needed."""

_PLACES = (path, folder, place, model_place, config_file, mask)
"""Types of arguments that are completed so."""


class PrintCompletion(argparse.Action):
    """Prints the script and exits, as --version does."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Raises SystemExit; argparse's error in a line if shtab is not installed."""
        if importlib.util.find_spec("shtab") is None:
            parser.error("completion needs shtab: pip install 'rad-jax[completion]'")
        import shtab

        _complete_files(parser)
        print(shtab.complete(parser, shell=str(values)))
        parser.exit()


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Marks the flags of paths, of all verbs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _complete_files(sub)
        elif action.type in _PLACES:
            action.complete = _FILES  # pyright: ignore[reportAttributeAccessIssue]
