"""The one exception whose message is meant for the person at the shell."""


class UserError(Exception):
    """A wrong setting or file. The message says what is wrong and what to do; main prints it without a traceback."""
