"""Runs that are killed, stopped or out of disk at random moments, and resumed to their end.

    python benchmarks/faults/kill.py --moments 50 --full 20
    python benchmarks/faults/kill.py --smoke                    # whether it runs, in seconds

A guided run on generated photographs, with loading processes, a cache on the disk, a checkpoint
within epochs, evaluations and figures, is made once as it is. Then it is made again and again,
ended at a random moment, and resumed with the same command until it has its results: they must be
those of the run that nothing happened to. Runs are forked from this process, which has loaded the
libraries, so that moments fall into the run. Prints a table; exit status 1 if any run differed.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from PIL import Image

import main
from utilities import report, run_folder

SHARED_MEMORY = Path("/dev/shm")
SETTINGS = """
    --dataset photos --arch test_resnet_normalize --not_pretrained --image_size 32 --embed_dim 8
    --loss margin --batch_mining distance --bs 8 --lr 1e-3 --device cpu --n_epochs 4 --savename r
    --language_distill_w 1 --language_model minilm --resume auto --store_improvements
    --checkpoint_every 0.01
"""
SMALLER = "--language_distill_w 0 --no_figures --n_epochs 2"
WORKING = "--kernels 2 --cache disk"
PATIENCE = 300.0  # seconds until a run counts as one that hangs
HEADER = ("what happened", "runs", "ended within the run", "as the whole run", "differing")


class Ended(NamedTuple):
    """A run's exit status, below 0 for a signal that it did not answer, and what it said."""

    status: int
    said: str


class Place(NamedTuple):
    """Where runs of one set of settings read and write."""

    flags: list[str]
    photos: Path
    folder: Path

    def run(self) -> Path | None:
        """The finished run: `r`, or `r_1` where there was no checkpoint yet to go on from."""
        return run_folder.finished_run(str(self.folder / "runs"), "photos", "r")

    def command(self) -> list[str]:
        places = {
            "--source_path": self.photos,
            "--save_path": self.folder / "runs",
            "--cache_path": self.folder / "cache",
        }
        return self.flags + [str(part) for pair in places.items() for part in pair]


def make_photos(folder: Path, classes: int = 8, images: int = 12) -> Path:
    """`<folder>/photos/images/<class>/<number>.png`, each class a colour."""
    draws = np.random.default_rng(0)
    for number in range(classes):
        home = folder / "photos" / "images" / f"colour {number}"
        home.mkdir(parents=True)
        colour = draws.uniform(30, 225, 3)
        for image in range(images):
            pixels = (colour + draws.normal(0, 25, (40, 57, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(home / f"{image}.png")
    return folder


def start(place: Place, prepare: Callable[[], object] | None = None) -> int:
    """Fork a run that writes what it says into a file; its process."""
    place.folder.mkdir(exist_ok=True)
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        said = os.open(place.folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        if prepare:
            prepare()
        status = main.main(place.command())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(process: int, place: Place, seconds: float = PATIENCE) -> Ended | None:
    """How it ended; None if it has not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            said = (place.folder / "said").read_text(errors="replace")
            return Ended(os.waitstatus_to_exitcode(status), said)
        time.sleep(0.005)
    return None


def finish(place: Place, prepare: Callable[[], object] | None = None) -> Ended:
    """Run to an end; one that hangs is killed and has the status of that."""
    process = start(place, prepare)
    if ended := wait(process, place):
        return ended
    os.killpg(process, signal.SIGKILL)
    return wait(process, place) or Ended(-signal.SIGKILL, "")


def results_of(place: Place) -> dict[str, object]:
    """All that a run leaves, but for times and places: parameters, tables, values, file names."""
    folder = place.run()
    assert folder is not None, place
    state = torch.load(folder / run_folder.LAST_CHECKPOINT, weights_only=True)
    parts = {"parameters": state["state_dict"], "objective": state["criterion"]}
    tables = {
        file.name: file.read_text()
        for file in (folder / "CSV_Logs").iterdir()
        if not any(word in file.name for word in ("time", "memory", "second"))
    }
    metrics = json.loads((folder / run_folder.RESULTS).read_text())["metrics"]
    files = {str(file.relative_to(folder)) for file in folder.rglob("*")}
    files |= {file.name for file in (place.folder / "cache").rglob("*")}
    files |= {file.name for file in place.folder.rglob("*.tmp")}
    return {
        **parts,
        "tables": tables,
        "metrics": {split: _untimed(values) for split, values in metrics.items()},
        "files": files,
    }


def _untimed(values: dict) -> dict:
    return {name: value for name, value in values.items() if "time" not in name}


def differences(ours: dict, whole: dict) -> list[str]:
    """The kinds of results that differ, with the files that only one side has."""
    differing = [kind for kind in ("tables", "metrics") if ours[kind] != whole[kind]]
    for kind in ("parameters", "objective"):
        mine, theirs = ours[kind], whole[kind]
        if mine.keys() != theirs.keys() or not all(
            torch.equal(mine[name], theirs[name]) for name in mine
        ):
            differing.append(kind)
    return differing + sorted(ours["files"] ^ whole["files"])


def left_behind(session: int, before: set[str]) -> list[str]:
    """Shared memory that was not there before, and processes of a run that outlived it."""
    deadline = time.monotonic() + 30  # loading processes see within 5 s that their reader is gone
    while True:
        left = sorted({path.name for path in SHARED_MEMORY.iterdir()} - before)
        orphans = _processes_of(session)
        if not (left or orphans) or time.monotonic() > deadline:
            return [*left, *(f"process {process}" for process in orphans)]
        time.sleep(0.2)


def _processes_of(session: int) -> list[int]:
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(folder.name)) == session:
                processes.append(int(folder.name))
    return processes


def kill_once(place: Place, moment: float, number: int, whole: dict) -> tuple[bool, list[str]]:
    """Whether the signal met the run, and what differs after it was resumed."""
    shared = {path.name for path in SHARED_MEMORY.iterdir()}
    process = start(place)
    ended = wait(process, place, moment)
    if ended is None:
        os.kill(process, number)
        ended = wait(process, place) or Ended(0, "hangs\n")
    problems = []
    if ended.status not in (0, 143, -number):
        problems.append(f"status {ended.status}")
    met = ended.status != 0
    if met and number == signal.SIGTERM and ended.status == 143:
        problems += _unclear(ended.said)
    problems += left_behind(process, shared)
    resumed = finish(place)
    if resumed.status:
        return met, [*problems, f"status {resumed.status} when resumed"]
    return met, problems + differences(results_of(place), whole)


def _unclear(said: str) -> list[str]:
    last = said.rstrip().splitlines()[-1]
    is_told = last.startswith("main.py: stopped by SIGTERM")
    return ([] if is_told else ["unsaid"]) + (["traceback"] if "Traceback" in said else [])


def fill_once(place: Place, size: int, whole: dict) -> tuple[bool, list[str]]:
    """Whether a file of that size at most was too small, and what differs after a resumption."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    ended, problems = finish(place, limit), []
    errors = [line for line in ended.said.splitlines() if line.startswith("main.py: error: ")]
    if ended.status not in (0, 2):
        problems.append(f"status {ended.status}")
    if len(errors) != (ended.status == 2) or "Traceback" in ended.said:
        problems.append("not one sentence")
    resumed = finish(place)
    if resumed.status:
        return ended.status == 2, [*problems, f"status {resumed.status} when resumed"]
    return ended.status == 2, problems + differences(results_of(place), whole)


def series(
    title: str, once: Callable[[int], tuple[bool, list[str]]], count: int
) -> tuple[object, ...]:
    """A row of the table."""
    met, differing = 0, Counter[str]()
    for number in range(count):
        was_met, problems = once(number)
        met += was_met
        if problems:
            differing[", ".join(problems)] += 1
            print(f"{title}, run {number}: {', '.join(problems)}", flush=True)
    bad = sum(differing.values())
    return title, count, met, count - bad, bad


def measure(flags: argparse.Namespace, folder: Path) -> list[tuple]:
    photos, draws = make_photos(folder / "data"), random.Random(flags.seed)
    common = [*SETTINGS.split(), *(SMALLER.split() if flags.smoke else [])]
    variants = {"working": [*common, *WORKING.split()], "alone": [*common, "--kernels", "0"]}
    wholes = {}
    for name, settings in variants.items():
        first = Place(settings, photos, folder / name)
        started = time.monotonic()
        ended = finish(first)
        if ended.status:
            sys.exit(f"The whole run ends with {ended.status}:\n{ended.said}")
        wholes[name] = (settings, results_of(first), time.monotonic() - started)
    settings, whole, seconds = wholes["working"]
    print(f"The whole run takes {seconds:.1f} s.", flush=True)
    rows = []
    for number in (signal.SIGKILL, signal.SIGTERM):
        name = signal.Signals(number).name

        def kill(turn: int, number: int = number, name: str = name) -> tuple[bool, list[str]]:
            place = Place(settings, photos, folder / f"{name}_{turn}")
            return kill_once(place, draws.uniform(0, seconds), number, whole)

        rows.append(series(name, kill, flags.moments))
    settings, alone, _ = wholes["alone"]
    largest = max(file.stat().st_size for file in (folder / "alone").rglob("*"))

    def fill(turn: int) -> tuple[bool, list[str]]:
        place = Place(settings, photos, folder / f"full_{turn}")
        return fill_once(place, int(2000 * (largest / 2000) ** draws.uniform(0, 1)), alone)

    rows.append(series("no room", fill, flags.full))
    return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moments", type=int, default=50, help="of each signal")
    parser.add_argument("--full", type=int, default=20, help="runs without room for a file")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--smoke", action="store_true", help="one of each, of a run without guidance and figures"
    )
    flags = parser.parse_args()
    if flags.smoke:
        flags.moments = flags.full = 1
    return flags


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        table = measure(parse(), Path(scratch))
    print(report.table(table, HEADER))
    sys.exit(any(row[-1] for row in table))
