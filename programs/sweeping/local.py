"""The runs of a sweep on this machine, each a process of main.py, so many at a time."""

import logging
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import parameters
from programs.sweeping import standing
from programs.sweeping.machine import Slot
from programs.sweeping.run_log import IsRunning, RunLog
from programs.sweeping.study import Planned
from utilities import signals
from utilities.errors import on_one_line
from utilities.progress import progress
from utilities.report import duration
from utilities.signals import Stopped

LOG = logging.getLogger(__name__)
PAUSE = 0.1  # seconds between two looks at the processes


@dataclass
class Outcome:
    """
    Attributes:
        finished: label -> run folder. failed: label -> why.
    """

    finished: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A run that is running; `started` is on the monotonic clock."""

    run: Planned
    process: subprocess.Popen[bytes]
    slot: Slot
    log: RunLog
    started: float

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def described(self) -> str:
        return f"{self.run.label} {self.log.epoch()}".rstrip()

    def failure(self) -> str:
        """Why it ended without its results."""
        status = self.process.returncode
        if status == 0:
            return f"it ended without the results of its settings; see {self.log.path}"
        if status == -signal.SIGKILL:
            return f"killed by SIGKILL, perhaps because memory ran out; see {self.log.path}"
        if status < 0:
            return f"ended by {signal.Signals(-status).name}; see {self.log.path}"
        return on_one_line(self.log.last_line())


class Pool:
    """One run after the other in each slot."""

    def __init__(self, runs: Sequence[Planned], slots: Sequence[Slot], outcome: Outcome):
        self.waiting, self.free = deque(runs), list(slots)
        self.count, self.slots = len(runs) + len(outcome.finished), len(slots)
        self.jobs: list[Job] = []
        self.outcome = outcome
        self.durations: list[float] = []
        self.line = _LiveLine()

    def work(self) -> None:
        """Until each run is finished or has failed, which the outcome says.

        Raises KeyboardInterrupt or Stopped after the runs have written their checkpoints.
        """
        try:
            while self.waiting or self.jobs:
                with signals.held():
                    self._step()
                time.sleep(PAUSE)
        except (KeyboardInterrupt, Stopped) as stop:
            self._stop()
            raise self._with_advice(stop) from None
        finally:
            self.line.close()

    def remaining(self) -> float | None:
        """Seconds, as long as the finished ones took; None before any is."""
        if not self.durations:
            return None
        mean = sum(self.durations) / len(self.durations)
        begun = sum(max(mean - job.seconds(), 0) for job in self.jobs)
        return (len(self.waiting) * mean + begun) / self.slots

    def _step(self) -> None:
        for job in [job for job in self.jobs if job.process.poll() is not None]:
            self.jobs.remove(job)
            self.free.append(job.slot)
            self._end(job)
        while self.waiting and self.free:
            self._start(self.waiting.popleft())
        if self.jobs:
            self.line.show(f"{self._progress()}; {', '.join(map(Job.described, self.jobs))}")

    def _start(self, run: Planned) -> None:
        path = Path(run.settings.save_path) / run.settings.dataset / f"{run.name}.log"
        try:
            log = RunLog(path)
            try:
                self._launch(run, log)
            finally:
                log.release()
        except IsRunning:
            self._fail(run, "it is running already, started by another sweep")
        except OSError as error:
            self._fail(run, f"it cannot be started ({error.filename or path}: {error.strerror})")

    def _launch(self, run: Planned, log: RunLog) -> None:
        """Start the process of a run, unless another sweep has finished it meanwhile."""
        if folder := standing.finished(run):
            self._finish(run, folder, "was finished meanwhile")
            return
        beginning, slot = standing.beginning(run), self.free[0]
        command = run.command(beginning.resume)
        log.begin(parameters.without_secrets(command))
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log.file,
            stderr=subprocess.STDOUT,
            env=slot.environment(),
            start_new_session=True,  # Ctrl-C reaches it through this program only, and once
        )
        self.free.remove(slot)
        self.jobs.append(Job(run, process, slot, log, time.monotonic()))
        where = f" on GPU {slot.gpu}" if slot.gpu is not None else ""
        is_anew = beginning.beside and not beginning.resume
        beside = f", anew beside {beginning.beside} of other settings" if is_anew else ""
        self._say(f"{run.label}: started{where}{beside}")

    def _end(self, job: Job) -> None:
        folder = standing.finished(job.run) if job.process.returncode == 0 else None
        if folder is None:
            self._fail(job.run, job.failure())
            return
        self.durations.append(job.seconds())
        self._finish(job.run, folder, f"finished in {duration(job.seconds())}")

    def _finish(self, run: Planned, folder: Path, how: str) -> None:
        self.outcome.finished[run.label] = folder
        self._say(f"{run.label}: {how} ({self._progress()})")

    def _fail(self, run: Planned, why: str) -> None:
        self.outcome.failed[run.label] = why
        self._say(f"{run.label}: failed: {why}")

    def _progress(self) -> str:
        left = self.remaining()
        time_left = f", about {duration(left)} left" if left else ""
        return f"{len(self.outcome.finished)} of {self.count} finished{time_left}"

    def _say(self, sentence: str) -> None:
        self.line.clear()
        LOG.info("%s", sentence)

    def _stop(self) -> None:
        """Have each process write its checkpoint and end; further signals only ask who is left."""
        asked = _Asked()
        asked.listen()
        for job in self.jobs:
            job.process.terminate()
        asked.since_then = bool(self.jobs)
        while self.jobs:
            if asked.since_then:
                self._say(f"Waiting for the checkpoints of {self._left()}.")
                asked.since_then = False
            time.sleep(PAUSE)
            for job in [job for job in self.jobs if job.process.poll() is not None]:
                self.jobs.remove(job)
                if job.process.returncode == 0:
                    self._end(job)

    def _left(self) -> str:
        return ", ".join(f"{job.run.label} (process {job.process.pid})" for job in self.jobs)

    def _with_advice(self, stop: KeyboardInterrupt | Stopped) -> KeyboardInterrupt | Stopped:
        advice = (
            f"; {len(self.outcome.finished)} of {self.count} runs are finished. The same command "
            "goes on where they are."
        )
        if isinstance(stop, Stopped):
            return Stopped(stop.number, advice)
        return KeyboardInterrupt(advice)


class _Asked:
    """Signals that arrive while runs write their checkpoints: nothing may be lost by them."""

    since_then = False

    def listen(self) -> None:
        for number in signals.SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.since_then = True


class _LiveLine:
    """What runs, on a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        self.bar = progress(None, "", bar_format="{desc}") if sys.stderr.isatty() else None
        self.text = ""

    def show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        if self.bar is not None and text[:width] != self.text:
            self.text = text[:width]
            self.bar.set_description_str(self.text)

    def clear(self) -> None:
        """Room for a sentence; the line comes back with what is shown next."""
        if self.bar is not None:
            self.bar.clear()
            self.text = ""

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
