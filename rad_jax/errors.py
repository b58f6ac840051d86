"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """A mistake or a mishap that one line explains.

    The line names the file or the key and says how to mend it. The command line prints
    it without a traceback and exits with code 2.
    """
