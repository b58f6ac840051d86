"""The one exception that a user's mistake raises."""

from typing import NoReturn


class UserError(Exception):
    """A mistake or a mishap that one line explains.

    The line names the file or the key and says how to mend it. The command line prints
    it without a traceback and exits with code 2.
    """


def refuse(error: UserError) -> NoReturn:
    """Raises it: for what is to fail when it is its turn."""
    raise error


def first_line(error: BaseException) -> str:
    """What an error says, as far as one line goes; its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
