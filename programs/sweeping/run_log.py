"""What the process of a run says: a file beside its run folder, and what can be read in it.

The file is locked as long as the process lives, so that no other sweep starts the same run, even if
the one that started it has been killed.
"""

import fcntl
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

TAIL = 20_000  # bytes at the end of a log in which something is looked for
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
EPOCH = re.compile(r"^Epoch (\d+) of (\d+)", flags=re.MULTILINE)


class IsRunning(Exception):
    """Another process writes to the file."""


class RunLog:
    """The log of one process, behind those of earlier ones in the same file.

    Raises IsRunning, or OSError for a file that cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file: BinaryIO = path.open("ab", buffering=0)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.file.close()
            raise IsRunning from error
        except OSError:  # some file systems of networks cannot lock
            pass
        self.start = path.stat().st_size

    def begin(self, command: Sequence[str]) -> None:
        """The line above all that the process says."""
        now = datetime.now().isoformat(" ", "seconds")
        self.file.write(f"{now} $ {shlex.join(command)}\n".encode(errors="replace"))
        self.start = self.path.stat().st_size

    def release(self) -> None:
        """Leave the file, and its lock, to the process."""
        self.file.close()

    def tail(self) -> str:
        """The end of what the process has said."""
        with suppress(OSError), self.path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(self.start, size - TAIL))
            return ESCAPES.sub("", file.read().decode(errors="replace"))
        return ""

    def last_line(self) -> str:
        """In which a program says what is wrong."""
        lines = [line.strip() for line in re.split(r"[\r\n]+", self.tail()) if line.strip()]
        said = lines[-1] if lines else "it said nothing"
        return said.removeprefix("main.py: ").removeprefix("error: ")

    def epoch(self) -> str:
        """The last one that has ended, as "3/10"; empty before the first."""
        ended = EPOCH.findall(self.tail())
        return "/".join(ended[-1]) if ended else ""
