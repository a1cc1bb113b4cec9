"""Runs of main.py as their folders tell them: settings, values, curves."""

import csv
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import parameters
from utilities import log_file, run_folder
from utilities.documents import from_yaml
from utilities.errors import UserError, on_one_line
from utilities.flags import read_stored
from utilities.paths import absent, expanded
from utilities.run_names import NAMED_BY_GROUP

SETTINGS = "args.yaml"
TABLES = "CSV_Logs"
# What a run has beside its settings, the log from its beginning.
OF_A_RUN = {run_folder.RESULTS, run_folder.LAST_CHECKPOINT, log_file.NAME, TABLES}
EVALUATION = "_evaluation"  # behind the name of a folder that --evaluate_only made
CHECKPOINT_ENDINGS = (".tar", ".pth", ".pt", ".ckpt")
READ_OF_LOG = 8192  # bytes at its end, which say what ended a run
# Facts of results.json that are read as what they are; float is any finite number.
KINDS = {
    "checkpoint": str,
    "command": str,
    "earlier_settings": list,
    "epochs": int,
    "finished": str,
    "images_left_out": dict,
    "seconds": float,
}
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ")  # before all that a run says


class Values(NamedTuple):
    """A metric of a run: three values, each with its epoch, counted from 1.

    `at_best_val` is there where the run has a validation split.
    """

    best: float
    best_epoch: int
    last: float
    last_epoch: int
    at_best_val: float | None = None
    best_val_epoch: int | None = None


class Curve(NamedTuple):
    """A metric over the epochs, counted from 1, in which it was measured."""

    epochs: list[int]
    values: list[float]


@dataclass(frozen=True)
class Run:
    """
    Attributes:
        folder: where it lies. settings: of main.py, by name.
        facts: what results.json says; empty of a run that has not ended.
        problem: what cannot be read of it, as a sentence; "" of a whole one.
    """

    folder: Path
    settings: dict[str, Any]
    facts: dict[str, Any]
    problem: str = ""

    @property
    def is_finished(self) -> bool:
        return bool(self.facts)

    @property
    def place(self) -> str:
        """Its folder on one line, from here where it lies below."""
        here = Path.cwd()
        inside = self.folder != here and self.folder.is_relative_to(here)
        return on_one_line(str(self.folder.relative_to(here) if inside else self.folder))

    @property
    def finished_at(self) -> float:
        """When results.json was written, in seconds; -inf of a run that has not ended."""
        try:
            time = datetime.fromisoformat(self.facts["finished"])
            return time.astimezone(timezone.utc).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError):
            return _modified(self.folder / run_folder.RESULTS) if self.facts else -math.inf

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images, classes and so on of each split; nothing where the records do not say."""
        return _counts(_mapping(self.facts, "data"))

    @property
    def is_evaluation(self) -> bool:
        """Whether `--evaluate_only` made it, of another run's checkpoint."""
        return "checkpoint" in self.facts

    @property
    def evaluated(self) -> str:
        """The name of the checkpoint of an evaluation, without its seed; a folder means the last.

        "" of a run that is no evaluation.
        """
        if not self.is_evaluation:
            return ""
        name = PurePath(self.facts["checkpoint"]).name
        if not name.endswith(CHECKPOINT_ENDINGS):
            return run_folder.LAST_CHECKPOINT
        return on_one_line(name.replace(f"_s{self.seed}", ""))

    @property
    def dataset(self) -> str:
        return str(self.settings.get("dataset", self.folder.parent.name))

    @property
    def seed(self) -> int | None:
        seed = self.settings.get("seed")
        return seed if type(seed) is int else None

    @property
    def group(self) -> str:
        """What runs that differ in nothing but the seed have in common: `--group`.

        Or else the name of the run without its seed.
        """
        savename = str(self.settings.get("savename", self.folder.name))
        if savename == NAMED_BY_GROUP:
            name = str(self.settings.get("group"))
        else:
            name = savename.removesuffix(f"_s{self.seed}")
        return name + EVALUATION if self.is_evaluation else name

    @property
    def splits(self) -> list[str]:
        """Those with values."""
        return [split for split in _mapping(self.facts, "metrics") if self.values(split)]

    def values(self, split: str = "Test") -> dict[str, Values]:
        """Of each metric of a split that has any: `embeds_e_recall: e_recall@1` and so on."""
        # Before the number of epochs stood in results.json, they were counted from 0.
        first = 0 if "epochs" in self.facts else 1
        measured = _mapping(_mapping(self.facts, "metrics"), split)
        read = {name: _values(three, first) for name, three in measured.items()}
        return {name: values for name, values in read.items() if values}

    def progress(self) -> str:
        """How far it is and, where its log says so, what ended it, in words."""
        if self.is_finished:
            return "finished"
        losses = self.curve("Train", "loss")
        done = f"{losses.epochs[-1] if losses.epochs else 0} of {self.settings.get('n_epochs')}"
        ended = _ending(self.folder / log_file.NAME)
        return f"not finished, {done} epochs done" + (f"; {ended}" if ended else "")

    def curve(self, split: str, key: str) -> Curve:
        """One metric over the epochs, without reading other tables; empty where there is none."""
        family, _, metric = key.rpartition(": ")
        file = self.folder / TABLES / f"Data_{split}_{family or metric}.csv"
        return _columns(file).get(metric, Curve([], []))

    @cached_property
    def curves(self) -> dict[str, dict[str, Curve]]:
        """Split -> `<family>: <metric>` -> its values, of a run that need not have ended."""
        curves: dict[str, dict[str, Curve]] = {}
        for file in sorted((self.folder / TABLES).glob("Data_*_*.csv")):
            _, split, family = file.stem.split("_", 2)
            for metric, curve in _columns(file).items():
                name = metric if metric == family else f"{family}: {metric}"
                curves.setdefault(split, {})[name] = curve
        return curves


def find(places: Iterable[str | Path]) -> list[Run]:
    """The runs at some places, each of which is a run folder or holds some at any depth.

    They come in the order of their places and paths, each once; a damaged one has a `problem`, and
    so has a folder that cannot be looked into. Raises UserError for a place without any.
    """
    folders: dict[Path, str] = {}
    for place in places:
        if not os.fspath(place):
            raise UserError("A place is empty; give run folders, or folders that hold some.")
        path = Path(expanded(place))
        if not _is_folder(path):
            raise UserError(
                f"{path}: {absent(path, 'folder')} Give run folders, or folders that hold some."
            )
        inside = _run_folders(path)
        if not inside:
            raise UserError(
                f"{path} holds no run: a run folder has {SETTINGS} and, when it has ended, "
                f"{run_folder.RESULTS}."
            )
        folders |= inside
    return [_read_or_tell(folder, problem) for folder, problem in folders.items()]


def _is_folder(path: Path) -> bool:
    """Raises UserError where that cannot even be looked at."""
    try:
        return path.is_dir()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.") from error


def read(folder: Path) -> Run:
    """The run of a folder. Raises UserError for one whose settings cannot be read."""
    facts, problem = _as_written(run_folder.results(folder)), ""
    if not isinstance(facts.get("metrics"), dict):
        facts, problem = {}, _why_without_results(folder / run_folder.RESULTS)
    settings = facts.get("settings")
    if not isinstance(settings, dict):
        if problem and not _is_there(folder / SETTINGS):
            raise UserError(f"{problem}, and there is no {SETTINGS} beside it.")
        settings = _settings(folder / SETTINGS)
    return Run(folder, settings, facts, problem)


def _why_without_results(file: Path) -> str:
    """What is wrong with a file that gives no results; "" where there is none."""
    try:
        file.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"
    return f"{file.name} holds no results"


def _is_there(file: Path) -> bool:
    """Also where it cannot be looked at."""
    try:
        file.stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return True


def _read_or_tell(folder: Path, problem: str) -> Run:
    try:
        return Run(folder, {}, {}, problem) if problem else read(folder)
    except UserError as error:
        return Run(folder, {}, {}, str(error))


def _run_folders(path: Path) -> dict[Path, str]:
    """The folders of runs at or below a path, and those that cannot be looked into -> why.

    Links are followed, and each folder is looked into once; nothing below a run is.
    """
    found: dict[Path, str] = {}
    seen: set[Path] = set()

    def tell(error: OSError) -> None:
        found[Path(error.filename).resolve()] = f"the folder cannot be read ({error.strerror})"

    for parent, folders, files in os.walk(path, onerror=tell, followlinks=True):
        folder = Path(parent).resolve()
        is_run = _is_run(folders, files)
        if is_run:
            found[folder] = ""
        if is_run or folder in seen:
            folders.clear()
        seen.add(folder)
        folders.sort()
    return found


def _is_run(folders: Sequence[str], files: Sequence[str]) -> bool:
    """Whether a folder is of a run; a copy of settings above runs makes it none."""
    if SETTINGS not in files:
        return run_folder.RESULTS in files
    return not folders or not OF_A_RUN.isdisjoint([*folders, *files])


def _settings(file: Path) -> dict[str, Any]:
    """Of a run that has not ended, or not yet."""
    try:
        settings = from_yaml(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"The settings {file} of a run cannot be read.") from error
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings of a run.")
    known, _ = read_stored(settings, parameters.FLAGS)
    return settings | known


def _mapping(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """What stands under a name, nothing where that is no mapping."""
    value = facts.get(name)
    return value if isinstance(value, dict) else {}


def _values(three: object, first: int) -> Values | None:
    """The values of a metric, whose epochs were counted from `1 - first`; None where none are."""
    if not isinstance(three, dict) or not all(_is_number(value) for value in three.values()):
        return None
    epochs = {name: int(three[name]) + first for name in three if name.endswith("epoch")}
    try:
        return Values(**(three | epochs))
    except TypeError:  # of another program
        return None


def _is_number(value: object) -> bool:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all others
        return False


def _as_written(facts: dict[str, Any]) -> dict[str, Any]:
    """Without those that are of another kind than a run writes, as files of other programs have."""
    return {
        name: value
        for name, value in facts.items()
        if name not in KINDS or _is_of(value, KINDS[name])
    }


def _is_of(value: object, kind: type) -> bool:
    return _is_number(value) if kind is float else type(value) is kind


def _counts(splits: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Of the splits whose counts are whole numbers."""
    return {
        split: counts
        for split, counts in splits.items()
        if isinstance(counts, dict) and all(type(count) is int for count in counts.values())
    }


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return -math.inf


def _ending(log: Path) -> str:
    """The last sentence of a log that says what ended the run; "" where it may be running."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - READ_OF_LOG))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    stamped = [number for number, line in enumerate(lines) if STAMP.match(line)]
    said = [line for line in lines[stamped[-1] if stamped else 0 :] if line.strip()]
    if not said:
        return ""
    first, last = STAMP.sub("", said[0]), said[-1]
    if first.startswith("main.py: "):
        return on_one_line(first.removeprefix("main.py: ").partition("; go on with")[0])
    return on_one_line(last) if first.startswith("Traceback") or not stamped else ""


def _columns(file: Path) -> dict[str, Curve]:
    """Metric -> its curve, of a table of CSV_Logs if there is one.

    Cells without a number are left out.
    """
    curves: dict[str, Curve] = {}
    try:
        with file.open(newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=1):
                # Tables of before 1.1 have no column for the epoch, but a row for each.
                epoch = int(row.pop("epoch", number))
                for metric, cell in row.items():
                    value = float(cell or "nan")
                    curve = curves.setdefault(metric, Curve([], []))
                    if math.isfinite(value):
                        curve.epochs.append(epoch)
                        curve.values.append(value)
    except FileNotFoundError:
        return {}
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"The table {file} of a run cannot be read ({error}).") from error
    return curves
