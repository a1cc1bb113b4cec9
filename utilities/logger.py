"""The records of a run: CSV tables, plots, results.json and, on request, boards to watch it on."""

import csv
import io
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Protocol

from utilities.environment import environment
from utilities.errors import UserError
from utilities.pictures import lettered, new_figure, save
from utilities.rows import Row, as_csv, readable
from utilities.run_folder import RESULTS, write_atomically

# Values of an epoch: split -> family -> metric -> value, e.g.
# {"Test": {"embeds_e_recall": {"e_recall@1": 0.5}}}.
Families = dict[str, dict[str, float]]
Values = dict[str, Families]
# Of all epochs so far, in which "epochs" counts from 0.
History = dict[str, dict[str, dict[str, list[float]]]]
# split -> "<family>: <metric>" -> three values and their epochs.
Summary = dict[str, dict[str, dict[str, float]]]

CLASS_TEXTS = "class_texts.csv"
EPOCHS = "Train: epochs"  # the key of the number of an epoch
STEPS = "Steps/"  # before the names of losses of steps
PLOT_INTERVAL = 60  # seconds between redrawings: drawing must not slow short epochs down
# Beginnings of names.
LOWER_IS_BETTER = (
    "loss",
    "objective",
    "guidance",
    "time",
    "dists@intra",
    "rho_spectrum",
    "mistake_severity",
    "c_mistake_severity",
    "superclass_mistake_severity",
)
COUNTERS = ("epochs", "time", "learning_rate", "images_per_second", "peak_memory")


def values_of_epoch(losses: dict[str, float], values: Values, costs: Families) -> Values:
    """The evaluation's values with the training's: losses by name are families of one metric."""
    return _with_training({name: {name: loss} for name, loss in losses.items()} | costs, values)


def key(family: str, metric: str) -> str:
    """ "embeds_nmi: nmi", or the name alone where the family is of one metric: "loss"."""
    return metric if family == metric else f"{family}: {metric}"


class Board(Protocol):
    """Where people watch a run while it lives.

    Epochs, and steps of training over all epochs, count from 1.
    """

    @property
    def run_id(self) -> str | None:
        """What a resumed run needs to go on there."""

    @property
    def is_new(self) -> bool:
        """Whether it knows nothing of what this run did before this process."""

    @property
    def known(self) -> float:
        """The last epoch that it has of what this run did before this process; 0: none."""

    def log(self, epoch: int, step: int, values: Values) -> None:
        """Values of an epoch, whose last step of training is `step`."""

    def log_steps(self, step: int, losses: dict[str, float]) -> None:
        """Losses of a step of training by name."""

    def log_table(self, epoch: int, name: str, rows: list[Row]) -> None:
        """A table by its key, beside the values of an epoch; 0 is before the first."""

    def log_figures(self, epoch: int, figures: dict[str, Path]) -> None:
        """Pictures by their keys, beside the values of an epoch."""

    def summarise(self, epoch: int, summary: Summary) -> None:
        """The three values of each metric after an epoch."""

    def finish(self, exit_code: int) -> None:
        """No more comes; the run has failed unless the code is 0."""


class RunLog:
    """Appends the values of each epoch to every record.

    Callers and the history count epochs from 0; every record that is read counts them from 1.

    Args:
        folder: run folder.
        history: values so far, of a resumed run: its records become whole.
        boards: where the run is shown beside its files.
        steps: of training in an epoch, by which boards count them.
        earlier: other settings that a resumed run had before (`checkpoints.earlier_settings`).
    """

    def __init__(
        self,
        folder: Path,
        history: History | None = None,
        boards: Sequence[Board] = (),
        steps: int = 1,
        earlier: Sequence[dict[str, object]] = (),
    ):
        self.folder, self.boards, self.steps = folder, boards, steps
        self.earlier = earlier
        self.environment = environment()  # of now: the code may be another when the run ends
        self.history: History = history or {}
        self.last_drawn = time.monotonic()
        (folder / "CSV_Logs").mkdir(exist_ok=True)
        # Of a run of before, which counted from 0; each table has the epochs now.
        (folder / "CSV_Logs" / "Data_Train_epochs.csv").unlink(missing_ok=True)
        (folder / "Progression_Plots").mkdir(exist_ok=True)
        self._tell_of_the_past()

    @property
    def online_id(self) -> str | None:
        """What a resumed run needs to go on with the same run at W&B."""
        return next((board.run_id for board in self.boards if board.run_id), None)

    def log(self, epoch: int, values: Values) -> None:
        """Record the values of an epoch, counted from 0."""
        done = len(self._numbers())
        for split, family, metric, value in _flat(_numbered(epoch, values)):
            metrics = self.history.setdefault(split, {}).setdefault(family, {})
            series = metrics.setdefault(metric, [])
            # A metric that a resumed run asks for anew has no value in the epochs before.
            series += [math.nan] * (done - len(series)) + [float(value)]
        for _, _, _, series in _flat(self.history):
            series += [math.nan] * (done + 1 - len(series))  # no longer asked for
        self._write_tables()
        if time.monotonic() - self.last_drawn > PLOT_INTERVAL:
            self.draw()
        numbered, summary = _numbered(epoch + 1, values), self.summary()
        for board in self.boards:
            board.log(epoch + 1, (epoch + 1) * self.steps, numbered)
            board.summarise(epoch + 1, summary)

    def log_steps(self, step: int, losses: dict[str, float]) -> None:
        """Losses of one step of training, counted from 1 over all epochs, for boards alone."""
        for board in self.boards:
            board.log_steps(step, losses)

    def log_class_texts(self, rows: list[Row]) -> None:
        """What guidance reads of each class, if anything; on new boards with pictures.

        A table of what it read before the run was resumed does not stay.
        """
        if not rows:
            (self.folder / CLASS_TEXTS).unlink(missing_ok=True)
            return
        write_atomically(self.folder / CLASS_TEXTS, as_csv(rows))
        for board in self.boards:
            if board.is_new:
                board.log_table(self._last_number(), "Train: class_texts", readable(rows))

    def log_table(self, name: str, rows: list[Row]) -> None:
        """A table for boards alone, beside the values of the last epoch; `name` is its key."""
        cells = readable(rows)
        for board in self.boards if rows else ():
            board.log_table(self._last_number(), name, cells)

    def improved(self, split: str, family: str, metric: str) -> bool:
        """Whether the last logged value is better than all before it."""
        *before, last = self.history[split][family][metric]
        sign = -1 if metric.startswith(LOWER_IS_BETTER) else 1
        known = (sign * value for value in before if not math.isnan(value))
        return sign * last > max(known, default=-math.inf)

    def improvements(
        self, splits: Iterable[str], evaltypes: list[str], metrics: list[str]
    ) -> list[Path]:
        """The checkpoints to write because a metric of a split is the best so far.

        A metric that belongs to one evaltype is asked of no other.
        """
        paths = []
        for split, evaltype, metric in product(splits, evaltypes, metrics):
            family = f"{evaltype}_{metric.split('@')[0]}"
            is_measured = metric in self.history[split].get(family, {})
            if is_measured and self.improved(split, family, metric):
                paths.append(self.folder / f"checkpoint_{split}_{evaltype}_{metric}.pth.tar")
        return paths

    def draw(self) -> None:
        """One figure per table."""
        for split, families in self.history.items():
            for family, metrics in families.items():
                if family not in COUNTERS:
                    self._draw_family(split, family, metrics)
        self.last_drawn = time.monotonic()

    def log_figures(self, split: str, figures: dict[str, Path]) -> None:
        """Pictures of a split beside the values of the last epoch, for boards alone."""
        named = {f"{split}: {name}": file for name, file in figures.items()}
        for board in self.boards if named else ():
            board.log_figures(self._last_number(), named)

    def summary(self) -> Summary:
        """Three values of each metric and their epochs, counted from 1.

        `best` is the best over the epochs of the split itself, the field's habit, which chooses on
        the test set; `at_best_val` is the value at the epoch that is best on the validation split,
        where there is one; `last` chooses nothing. A metric that had no value in any epoch, because
        its data never allowed one, has none of the three.
        """
        summary: Summary = {split: {} for split in self.history}
        for split, family, metric, series in _flat(self.history):
            if family not in COUNTERS:
                three_values = self._three_values(family, metric, series)
                summary[split][key(family, metric)] = three_values
        return summary

    def finish(self, run: dict[str, object], seconds: float) -> None:
        """Draw, and write results.json, with which a run has everything. `run` says what was run.

        Raises UserError for a plot that cannot be written, after the results.
        """
        summary = self.summary()
        for board in self.boards:  # of which a resumed one may know less
            board.summarise(self._last_number(), summary)
        results = {
            **run,
            **({"earlier_settings": self.earlier} if self.earlier else {}),
            "run": str(self.folder),
            "epochs": self._last_number(),
            "metrics": summary,
            "peak_memory": run.get("peak_memory") or self._peak_memory(),
            "seconds": round(seconds, 2),
            "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
            **self.environment,
        }
        unwritten = None
        try:
            self.draw()
        except UserError as error:
            unwritten = error
        write_atomically(self.folder / RESULTS, json.dumps(results, indent=1) + "\n")
        if unwritten:
            raise unwritten

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        """End all boards, as failed if an exception passes; the files need no closing."""
        with ExitStack() as ending:
            for board in self.boards:
                ending.callback(board.finish, exit_code=1 if kind else 0)

    def _tell_of_the_past(self) -> None:
        """Boards that begin with a resumed run, or did not see all of it, get the epochs before."""
        for board in self.boards:
            for place, number in enumerate(self._numbers()):
                if number > board.known:
                    values = _numbered(number, _values_at(self.history, place))
                    board.log(number, number * self.steps, values)

    def _write_tables(self) -> None:
        for split, families in self.history.items():
            for family, metrics in families.items():
                if family != "epochs":
                    path = self.folder / "CSV_Logs" / f"Data_{split}_{family}.csv"
                    write_atomically(path, _table(self._numbers(), metrics))

    def _draw_family(self, split: str, family: str, metrics: dict[str, list[float]]) -> None:
        file = self.folder / "Progression_Plots" / f"Graph_{split}_{family}.svg"
        with lettered([family, *metrics]) as shown:
            figure = new_figure(7, 4.5)
            axes = figure.subplots()
            for metric, series in metrics.items():
                known = self._known(series)
                last = f"last {known[-1][1]:.4f}" if known else "no value"
                epochs, values = [epoch for epoch, _ in known], [value for _, value in known]
                axes.plot(epochs, values, marker=".", label=f"{shown[metric]} ({last})")
            axes.set(title=f"{split}: {shown[family]}", xlabel="epoch")
            axes.locator_params(axis="x", integer=True)
            axes.grid(alpha=0.3)
            axes.legend()
            save(figure, file, tight=False)

    def _numbers(self) -> list[int]:
        """Of the epochs so far, counted from 1."""
        epochs = self.history.get("Train", {}).get("epochs", {}).get("epochs", [])
        return [int(epoch) + 1 for epoch in epochs]

    def _last_number(self) -> int:
        """Of the last epoch so far, 0 before the first."""
        return max(self._numbers(), default=0)

    def _peak_memory(self) -> dict[str, float]:
        """The largest of all epochs, of whichever process of the run."""
        peaks = self.history.get("Train", {}).get("peak_memory", {})
        known = {name: [peak for peak in series if peak == peak] for name, series in peaks.items()}
        return {name: max(series) for name, series in known.items() if series}

    def _three_values(self, family: str, metric: str, series: list[float]) -> dict[str, float]:
        known = self._known(series)
        if not known:
            return {}
        best_epoch, best = _best(metric, known)
        last_epoch, last = known[-1]
        values = {"best": best, "best_epoch": best_epoch, "last": last, "last_epoch": last_epoch}
        of_validation = self.history.get("Val", {}).get(family, {}).get(metric, [])
        if validation := self._known(of_validation):
            chosen, _ = _best(metric, validation)
            if chosen in dict(known):
                values |= {"at_best_val": dict(known)[chosen], "best_val_epoch": chosen}
        return values

    def _known(self, series: list[float]) -> list[tuple[int, float]]:
        """Number of the epoch and value where there is one: not every epoch is evaluated."""
        numbered = zip(self._numbers(), series)
        return [(number, value) for number, value in numbered if not math.isnan(value)]


class Unwritten(RunLog):
    """The records of a process that leaves them to another, which has the same values."""

    def __init__(self, folder: Path):
        self.folder, self.boards, self.steps = folder, (), 1
        self.history: History = {}
        self.earlier = ()

    def log(self, epoch: int, values: Values) -> None:
        """Nothing, as all below."""

    def log_class_texts(self, rows: list[Row]) -> None: ...

    def improvements(
        self, splits: Iterable[str], evaltypes: list[str], metrics: list[str]
    ) -> list[Path]:
        return []

    def finish(self, run: dict[str, object], seconds: float) -> None: ...


def by_key(values: Values) -> dict[str, float]:
    """By keys as in the paper's code: "Test: embeds_e_recall: e_recall@1", "Train: loss"."""
    return {
        f"{split}: {key(family, metric)}": value for split, family, metric, value in _flat(values)
    }


def _with_training(families: Families, values: Values) -> Values:
    """Families of the training before all others of a split."""
    splits = {"Train": families | values.get("Train", {})}
    return splits | {split: measured for split, measured in values.items() if split != "Train"}


def _numbered(epoch: int, values: Values) -> Values:
    return _with_training({"epochs": {"epochs": epoch}}, values)


def _values_at(history: History, place: int) -> Values:
    """Of one epoch, without its number and the values that it does not have."""
    values: Values = {}
    for split, family, metric, series in _flat(history):
        if family != "epochs" and not math.isnan(series[place]):
            values.setdefault(split, {}).setdefault(family, {})[metric] = series[place]
    return values


def _flat(nested: dict) -> Iterator[tuple]:
    """Split, family, metric and what is kept of it."""
    for split, families in nested.items():
        for family, metrics in families.items():
            for metric, leaf in metrics.items():
                yield split, family, metric, leaf


def _table(numbers: list[int], metrics: dict[str, list[float]]) -> str:
    """CSV with a column for the epoch and each metric, and a row for each epoch with any value.

    An empty cell is no value.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *metrics])
    for number, *values in zip(numbers, *metrics.values()):
        cells = ["" if math.isnan(value) else value for value in values]
        if any(cell != "" for cell in cells):
            writer.writerow([number, *cells])
    return text.getvalue()


def _best(metric: str, known: list[tuple[int, float]]) -> tuple[int, float]:
    """The first epoch with the best value, and the value."""
    best = min if metric.startswith(LOWER_IS_BETTER) else max
    return best(known, key=lambda pair: pair[1])
