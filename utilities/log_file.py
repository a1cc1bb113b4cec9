"""The log file of a run: all that it says, from its beginning to what ends it."""

import errno
import fcntl
import logging
import re
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from utilities.errors import UserError

LOG = logging.getLogger(__name__)
NAME = "log.txt"
EARLY = 10_000  # sentences that are kept before there is a file
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class LogFile(logging.Handler):
    """Writes what is logged, and what it is told, with the time of each.

    The folder of a run is made late; until then sentences are kept in memory. A file that cannot
    be written ends the log and not the run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self.begun = datetime.now()
        self.early: deque[str] = deque(maxlen=EARLY)
        self.file: TextIO | None = None
        self.is_over = False

    def keep_in(self, folder: Path, beginning: str) -> None:
        """Write into a folder from now on, behind what earlier processes of the run wrote there.

        The open file is locked, which tells other processes that the run is being written.

        Args:
            beginning: the line before all that this process said.
        Raises:
            UserError: another process writes the run.
        """
        path = folder / NAME
        kept, self.early = self.early, deque()
        try:
            divider = "\n" if path.is_file() and path.stat().st_size else ""
            file = path.open(
                "a", encoding="utf-8", errors="backslashreplace", buffering=1, newline="\n"
            )
            _lock(file, folder)
            self.file = file
            self.file.write("".join([divider, _stamped(beginning, self.begun), *kept]))
        except OSError as error:
            self._give_up(error)

    def say(self, text: str) -> None:
        """Write a text of one line or several."""
        line = _stamped(text)
        if self.is_over:
            return
        if self.file is None:
            self.early.append(line)
            return
        try:
            self.file.write(line)
        except (OSError, ValueError) as error:  # ValueError: closed by whoever reconfigures logging
            self._give_up(error)

    def emit(self, record: logging.LogRecord) -> None:
        self.say(self.format(record))

    def close(self) -> None:
        """Write nothing more."""
        was_over, self.is_over = self.is_over, True
        self.early.clear()
        if self.file is not None:
            file, self.file = self.file, None
            try:
                file.close()
            except OSError as error:  # what was still to be written
                if not was_over:
                    self._give_up(error)
        super().close()

    def _give_up(self, error: Exception) -> None:
        self.is_over = True
        reason = getattr(error, "strerror", None) or error
        LOG.warning("%s cannot be written (%s): the log of this run ends here.", NAME, reason)


class Overheard:
    """A stream whose lines are heard by someone else as well, as they read in the end.

    What a progress bar has written over, and codes that move a cursor or set a colour, is not.
    """

    def __init__(self, stream: TextIO, hear: Callable[[str], None]):
        self.stream, self.hear, self.line = stream, hear, ""

    def write(self, text: str) -> int:
        *lines, rest = (self.line + text).split("\n")
        for line in lines:
            if shown := _as_it_reads(line):
                self.hear(shown)
        self.line = rest[rest.rfind("\r", 0, -1) + 1 :]
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def require_unwritten(folder: Path) -> None:
    """Raises UserError where another process writes the run of a folder."""
    try:
        with (folder / NAME).open("r+") as file:
            _lock(file, folder)
    except OSError:  # no log, or none that can be opened: nothing is known
        return


def is_left(folder: Path) -> bool:
    """Whether no process writes the run of a folder any more, as far as locks can tell that."""
    try:
        with (folder / NAME).open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is written, or there is no log, or no lock on this file system
        return False
    return True


def _lock(file: TextIO, folder: Path) -> None:
    """For as long as this process has it open; file systems without locks are left alone."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise UserError(
                f"The run {folder} is being written by another process; wait until that ends, or "
                "stop it."
            ) from error


def current() -> LogFile | None:
    """That of this run, if logging was configured to have one."""
    handlers = logging.getLogger().handlers
    return next((handler for handler in handlers if isinstance(handler, LogFile)), None)


@contextmanager
def overhearing() -> Iterator[None]:
    """Inside, the log file has what is written to standard error too; then it ends.

    An exception that passes is written with its traceback.
    """
    log = current()
    if log is None:
        yield
        return
    before = sys.stderr
    sys.stderr = Overheard(before, log.say)
    try:
        yield
    except BaseException:
        log.say(traceback.format_exc())
        raise
    finally:
        sys.stderr = before
        log.close()


def _stamped(text: str, time: datetime | None = None) -> str:
    return f"{time or datetime.now():%Y-%m-%d %H:%M:%S}  {text.strip(chr(10))}\n"


def _as_it_reads(line: str) -> str:
    return ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
