"""The exception whose message is for the person at the shell, and how messages name things."""

from collections.abc import Sequence


class UserError(Exception):
    """A wrong setting or file.

    The message says what is wrong and what to do; main prints it without a traceback.
    """


def reason(error: Exception) -> str:
    """What another library's exception says, as a short part of one sentence."""
    return " ".join(str(error).split())[:160]


def named(things: Sequence[str], shown: int = 3) -> str:
    """The first few of some things, and how many there are beside them."""
    others = len(things) - shown
    return ", ".join(map(str, things[:shown])) + (f" and {others} more" if others > 0 else "")
