"""How far long work is: a bar on a terminal, a line a minute where it is read later."""

import io
import logging
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

from utilities import signals

LOG = logging.getLogger(__name__)
COLUMNS, ROWS = 80, 24  # of a terminal that does not say
INTERVAL = 60.0  # seconds between two lines
LINE = "{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} left{postfix}"


class _Terminal:
    """Whether bars may be drawn where there is one."""

    has_bars = True


def allow_bars(allowed: bool) -> None:
    """Of a quiet run the lines are left, for its log."""
    _Terminal.has_bars = allowed


def progress(things: Iterable | None, title: str, **options: Any) -> tqdm:
    """What is iterated, or updated by hand, and told.

    Args:
        things: counted as they are taken; None where `update` is called.
        options: of tqdm: total, initial, unit, delay.
    """
    with signals.held():  # of a bar that is half made, `__del__` of tqdm shows a traceback
        if _Terminal.has_bars and sys.stderr.isatty():
            room: dict[str, Any] = options | _room(sys.stderr)
            return tqdm(things, desc=title, leave=False, **room)
        return _Lines(things, title, **options)


def _room(terminal: TextIO) -> dict[str, int]:
    """Columns and rows of a terminal that says it has none, as some of containers do.

    Nothing where it says them: then tqdm follows when they change.
    """
    try:
        size = os.get_terminal_size(terminal.fileno())
    except (OSError, ValueError):
        return {}
    return {} if all(size) else {"ncols": size.columns or COLUMNS, "nrows": size.lines or ROWS}


class _Lines(tqdm):
    """Says a line now and then, and nothing of work that is done before the first is due."""

    def __init__(self, things: Iterable | None, title: str, **options: Any):
        known = {
            "desc": title,
            "leave": False,
            "file": io.StringIO(),
            "delay": INTERVAL,
            "mininterval": INTERVAL,
            "miniters": 1,
            "bar_format": LINE,
        }
        super().__init__(things, **(options | known))

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:
            LOG.info("%s", str(self))
