"""Programs in processes of their own, without the seconds in which each would load the libraries.

A server that has loaded them once forks the processes.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOADED = ["build", "main", "steps", "faiss", "matplotlib.backends.backend_agg", "sklearn.cluster"]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*LOADED, "utilities.pictures", "transformers", "open_clip"])


class Program:
    """`python <script> <words>`, begun, in a session of its own.

    What it says is kept in files, the names of which begin with `said`.
    """

    def __init__(self, script: Path, words: Sequence[str], said: Path, folder: Path = ROOT) -> None:
        self.out, self.err = (said.with_name(f"{said.name}.{end}") for end in ("out", "err"))
        task = (script, list(words), self.out, self.err, folder)
        self.process = CONTEXT.Process(target=_become, args=task)
        self.process.start()

    @property
    def status(self) -> int | None:
        """Its exit status, or None while it works."""
        return self.process.exitcode

    def await_file(self, path: Path, seconds: float = 240) -> None:
        """Until it is there, or the program has ended, or the time is over."""
        deadline = time.monotonic() + seconds
        while not path.exists() and self.status is None and time.monotonic() < deadline:
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """To it and all that it started, as a terminal or a scheduler does."""
        assert self.process.pid
        os.killpg(self.process.pid, number)

    def wait(self, seconds: float) -> int | None:
        """Exit status; None where it did not end in time, and had to be killed."""
        self.process.join(seconds)
        status = self.status
        self.process.kill()
        return status


def speak_into(out: Path, err: Path) -> None:
    """What this process says goes to the ends of these files from now on."""
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)


def _become(script: Path, words: list[str], out: Path, err: Path, folder: Path) -> None:
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # as anywhere, not the server's
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background
    speak_into(out, err)
    os.fsync = lambda fd: None  # as in the tests themselves
    os.chdir(folder)
    sys.argv = [str(script), *words]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
