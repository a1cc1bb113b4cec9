"""Standard output and who reads it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Who reads standard output, `head` say, may have had enough: what follows goes nowhere."""
    open_closed()
    try:
        yield
    except BrokenPipeError:
        _lead_nowhere(sys.stdout)
    try:
        sys.stdout.flush()
    except OSError:
        _lead_nowhere(sys.stdout)


def open_closed() -> None:
    """Give the standard streams that were closed when Python began, `>&-`, to nowhere.

    Otherwise the next file that is opened would get what libraries write there.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, "r" if name == "stdin" else "w"))


class PatientStream:
    """A stream that its reader may leave, or whose disk may be full.

    What is written then goes nowhere, and nothing ends.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError:
            _lead_nowhere(self.stream)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            _lead_nowhere(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def patient_errors() -> Iterator[None]:
    """Inside, standard error, on which progress is shown, is a `PatientStream`."""
    before = sys.stderr
    sys.stderr = PatientStream(before)
    try:
        yield
        sys.stderr.flush()
    finally:
        sys.stderr = before


def _lead_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
