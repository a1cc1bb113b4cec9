"""One call of a program in a process and a folder of its own, watched."""

import contextlib
import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("main", "programs.embed", "programs.search", "programs.export", "programs.prepare")
# What they load as they work: loaded once, before the processes of the calls are forked off.
LOADED_LATE = (
    "datasets.prepare.download",
    "matplotlib.pyplot",
    "programs.image_index",
    "programs.model_file",
    "programs.trained",
    "pyarrow.csv",
    "pyarrow.parquet",
    "safetensors.torch",
    "scipy.io",
    "sklearn.cluster",
    "timm.data",
)
GB = 2**30
MEMORY, LARGEST_FILE = 6 * GB, GB  # that a call may take beside what is loaded, and write
IDLE = 0.05  # a call that uses less of the time only waits
NOBODY = "http://127.0.0.1:9"  # a port at which nothing answers
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events of Python that change files -> which of their arguments are paths.
CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
    "shutil.move": (0, 1),
}


class Case(NamedTuple):
    """A call: `python -m <program> <arguments>`, and what is odd about what it is given."""

    kind: str
    mutation: str
    program: str
    arguments: list[str]


class Outcome(NamedTuple):
    status: int | None  # negative for a signal; None where it did not end in time
    seconds: float  # of the CPU
    said: str  # on standard error
    output: str  # on standard output
    touched: list[str]  # what was written outside of the call's folder, and pickles that were read


def load_programs() -> None:
    """Into this process, for the sake of those that are forked off it."""
    for name in (*PROGRAMS, *LOADED_LATE):
        importlib.import_module(name)


def forked(case: Case, folder: Path, limit: float) -> Outcome:
    """The call in a fork of this process, which has loaded the programs, watched from inside."""
    _make_homes(folder)
    child = os.fork()
    if not child:
        _become(case, folder)
    return _outcome(folder, *_awaited(child, limit))


def started_anew(case: Case, folder: Path, limit: float) -> Outcome:
    """The call as people make it."""
    _make_homes(folder)
    # An interpreter of its own for main.py, which is called as a file; the others are modules.
    words = [str(ROOT / "main.py")] if case.program == "main" else ["-m", case.program]
    with (folder / "stdout").open("wb") as output, (folder / "stderr").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, *words, *case.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=said,
            cwd=folder / "work",
            env={**os.environ, **_environment(folder), "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        ended = _awaited(process.pid, limit)
        process.returncode = 0  # it has been waited for
    return _outcome(folder, *ended)


def snapshot(root: Path, without: Path) -> dict[str, tuple[int, int, int]]:
    """Path -> what shows a change of each file and folder below `root`, one folder left out."""
    seen = {}
    for current, folders, names in os.walk(root):
        folders[:] = [name for name in folders if os.path.join(current, name) != str(without)]
        for name in (*names, *folders):
            path = os.path.join(current, name)
            status = os.lstat(path)
            is_folder = os.path.isdir(path)
            size, changed = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
            seen[path] = (status.st_mode, size, changed)
    return seen


def _make_homes(folder: Path) -> None:
    for name in ("work", "home", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def _environment(folder: Path) -> dict[str, str]:
    """A home, a temporary folder, one thread, no GPU and no network."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOBODY)
    return {
        **proxies,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "tmp"),  # chosen when torch is loaded
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


def _become(case: Case, folder: Path) -> None:
    """Be the call, to its end; never returns."""
    status = 70  # nothing that a program ends with
    try:
        os.setsid()
        _redirect(folder)
        os.chdir(folder / "work")
        os.environ.update(_environment(folder))
        tempfile.tempdir = None
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _watch(folder)
        status = _status_of(case)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


def _redirect(folder: Path) -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        path, flags = (folder / name, os.O_WRONLY | os.O_CREAT) if number else (os.devnull, 0)
        descriptor = os.open(path, flags, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def _status_of(case: Case) -> int:
    """What the interpreter would end with."""
    sys.argv = [case.program, *case.arguments]
    try:
        return sys.modules[case.program].main(case.arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _watch(folder: Path) -> None:
    """Note what Python writes outside of the folder, and what the pickle module looks up."""
    notes = os.open(folder / "touched", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    home = os.path.realpath(folder) + "/"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        for path in _changed(event, arguments):
            place = os.path.realpath(os.fsdecode(path))
            if not f"{place}/".startswith(home) and not place.startswith("/dev/"):
                os.write(notes, f"{event} {place!a}\n".encode())
        if event == "pickle.find_class":
            os.write(notes, f"a pickle asked for {arguments!a}\n".encode())

    sys.addaudithook(hook)


def _changed(event: str, arguments: tuple[Any, ...]) -> Iterator[str | bytes]:
    if event == "open":
        path, _, flags = arguments
        is_written = isinstance(flags, int) and flags & WRITING
        paths = [path] if is_written else []
    else:
        paths = [arguments[place] for place in CHANGES.get(event, ())]
    yield from (path for path in paths if isinstance(path, str | bytes))


def _awaited(child: int, limit: float) -> tuple[int | None, float]:
    """Exit status, negative for a signal, None where it had to be killed; and seconds of the CPU.

    On a busy machine a call takes longer than its work: what counts is the time of the CPU, and of
    a call that only waits the time of the clock.
    """
    started, used = time.monotonic(), 0.0
    while used < limit:
        waited = time.monotonic() - started
        if waited > limit and used < IDLE * waited:
            break
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            _end_group(child)
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        used = _seconds_used(child)
        time.sleep(0.005)
    _end_group(child)
    os.waitpid(child, 0)
    return None, used


def _seconds_used(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _end_group(child: int) -> None:
    """What the call has started, and itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _outcome(folder: Path, status: int | None, seconds: float) -> Outcome:
    texts = [
        (folder / name).read_text(errors="replace") if (folder / name).exists() else ""
        for name in ("stderr", "stdout", "touched")
    ]
    return Outcome(status, seconds, texts[0], texts[1], texts[2].splitlines())
