"""Runs of main.py as their folders tell them: settings, values, curves."""

import csv
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from utilities import run_folder
from utilities.errors import UserError
from utilities.paths import expanded
from utilities.run_names import NAMED_BY_GROUP

SETTINGS = "args.yaml"
TABLES = "CSV_Logs"
EVALUATION = "_evaluation"  # behind the name of a folder that --evaluate_only made


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
    """

    folder: Path
    settings: dict[str, Any]
    facts: dict[str, Any]

    @property
    def is_finished(self) -> bool:
        return bool(self.facts)

    @property
    def is_evaluation(self) -> bool:
        """Whether `--evaluate_only` made it, of another run's checkpoint."""
        return "checkpoint" in self.facts

    @property
    def dataset(self) -> str:
        return str(self.settings.get("dataset", self.folder.parent.name))

    @property
    def seed(self) -> int | None:
        seed = self.settings.get("seed")
        return seed if isinstance(seed, int) else None

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

    def values(self, split: str = "Test") -> dict[str, Values]:
        """Of each metric of a split that has any: `embeds_e_recall: e_recall@1` and so on."""
        measured = self.facts.get("metrics", {}).get(split, {})
        return {name: Values(**three) for name, three in measured.items() if three}

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

    They come in the order of their places and paths, each once. Raises UserError for a place
    without any.
    """
    folders: dict[Path, None] = {}
    for place in places:
        path = Path(expanded(place))
        if not path.is_dir():
            raise UserError(f"{path} is no folder; give run folders, or folders that hold some.")
        inside = list(_run_folders(path))
        if not inside:
            raise UserError(
                f"{path} holds no run: a run folder has {SETTINGS} and, when it has ended, "
                f"{run_folder.RESULTS}."
            )
        folders |= dict.fromkeys(folder.resolve() for folder in inside)
    return [read(folder) for folder in folders]


def read(folder: Path) -> Run:
    """The run of a folder. Raises UserError for one whose settings cannot be read."""
    facts = run_folder.results(folder)
    settings = facts.get("settings")
    if not isinstance(settings, dict):
        facts, settings = {}, _settings(folder / SETTINGS)
    return Run(folder, settings, facts)


def _run_folders(path: Path) -> Iterator[Path]:
    """The folders of runs at or below a path; nothing below a run is looked at."""
    for parent, folders, files in os.walk(path):
        folders.sort()
        if SETTINGS in files or run_folder.RESULTS in files:
            folders.clear()
            yield Path(parent)


def _settings(file: Path) -> dict[str, Any]:
    """Of a run that has not ended, or not yet; libyaml reads hundreds in a second."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        settings = yaml.load(file.read_bytes(), Loader=loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"The settings {file} of a run cannot be read.") from error
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings of a run.")
    return settings


def _columns(file: Path) -> dict[str, Curve]:
    """Metric -> its curve, of a table of CSV_Logs; cells without a number are left out."""
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
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"The table {file} of a run cannot be read ({error}).") from error
    return curves
