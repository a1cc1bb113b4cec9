"""Being told to stop: SIGTERM, the SIGUSR1 that schedulers send ahead of it, SIGHUP, and Ctrl-C.

SIGHUP comes when a terminal is closed; under nohup it is ignored, and stays so.

A signal becomes an exception between any two lines of Python, but for those that are
`held` together: there it waits for their end.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

STDERR = 2  # its number, whatever Python has made of the stream
ONE_WISH = 2.0  # seconds in which several signals mean one thing
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


class Stopped(BaseException):
    """A signal to stop. No Exception: whoever catches those to report them must not catch it."""

    def __init__(self, number: int, how_to_go_on: str = ""):
        super().__init__(number, how_to_go_on)
        self.number, self.how_to_go_on = number, how_to_go_on

    @property
    def status(self) -> int:
        """Of the program that it ends: 129 where a terminal was closed, else that of SIGTERM."""
        return 128 + (signal.SIGHUP if self.number == signal.SIGHUP else signal.SIGTERM)

    def __str__(self) -> str:
        return signal.Signals(self.number).name + self.how_to_go_on


class _State:
    """What has come and is not answered yet, and how many `held` are around the current line."""

    arrived: int | None = None
    holding = 0
    raised = -math.inf  # when an exception last was


@contextmanager
def answered() -> Iterator[None]:
    """Inside, the signals raise `Stopped`, but Ctrl-C KeyboardInterrupt.

    Only the main thread of a process can say so; in others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _answer) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.arrived, _State.holding, _State.raised = None, 0, -math.inf


@contextmanager
def held() -> Iterator[None]:
    """What belongs together is ended before a signal is answered.

    Raises Stopped or KeyboardInterrupt behind it, or ahead of it where an earlier one was lost: a
    `__del__` swallows exceptions.
    """
    _raise_arrived()
    _State.holding += 1
    try:
        yield
    finally:
        _State.holding -= 1
    _raise_arrived()


@contextmanager
def postponed() -> Iterator[None]:
    """Inside, signals are noted: several processes answer them together, by `answer`.

    Raises Stopped or KeyboardInterrupt behind it for what has come too late for that.
    """
    _State.holding += 1
    try:
        yield
    finally:
        _State.holding -= 1
    _raise_arrived()


def arrived() -> int:
    """The number of the signal that has come and is not answered yet, 0 for none."""
    return _State.arrived or 0


def answer(number: int) -> NoReturn:
    """Raises what a signal asks for, whichever process it came to."""
    _State.arrived, _State.raised = number, time.monotonic()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(number)


def end() -> None:
    """From here on the program is ending: no further signal is answered."""
    _State.holding += 1


def _answer(number: int, frame: FrameType | None) -> None:
    if time.monotonic() - _State.raised < ONE_WISH:
        return
    is_impatient = number == signal.SIGINT and _State.arrived == number
    _State.arrived = number
    if is_impatient:
        raise KeyboardInterrupt
    if number == signal.SIGINT:
        _tell_who_waits()
    _raise_arrived()


def _tell_who_waits() -> None:
    """Ctrl-C is heard: what ends orderly takes seconds. No logging, which may be in its midst.

    Of several processes on a terminal (torchrun) the first says it.
    """
    with suppress(OSError):
        if os.isatty(STDERR) and os.environ.get("RANK", "0") == "0":
            os.write(STDERR, b"\nStopping; a second Ctrl-C loses what is being written.\n")


def _raise_arrived() -> None:
    if _State.arrived is None or _State.holding:
        return
    answer(_State.arrived)


def end_quietly_until_answered() -> None:
    """Ctrl-C while libraries are loaded ends the program without their traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
