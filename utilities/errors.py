"""The one exception whose message is meant for the person at the shell, and what it says of others."""


class UserError(Exception):
    """A wrong setting or file. The message says what is wrong and what to do; main prints it without a traceback."""


def reason(error: Exception) -> str:
    """What another library's exception says, as a short part of one sentence."""
    return " ".join(str(error).split())[:160]
