"""The page of several runs: groups beside each other, over their seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from programs.constants import VALUES
from programs.page import chart, run_part, writing
from programs.page.chart import Chart, Drawing, Series
from programs.page.run_part import RunPart, Table
from programs.page.text import counted
from programs.results import comparison, curves, numbers
from programs.results.comparison import Comparison, Group, Measured
from programs.results.curves import Band
from programs.results.metric_names import Metric
from programs.results.runs import Run
from utilities.errors import UserError

TITLES = {"best": "best", "at_best_val": "at best validation", "last": "last"}
MOST_RUNS = 100  # with a part of their own


class DatasetPart(NamedTuple):
    """The groups of a dataset: a table and a chart for each metric, and in what they differ."""

    name: str
    tables: list[Table]
    charts: list[Drawing]
    settings: Table


class ComparisonPart(NamedTuple):
    """
    Attributes:
        state: a sentence on what is compared. warnings, left_out: sentences.
        runs: of the groups or not. more: runs without a part of their own.
    """

    name: str
    state: str
    warnings: list[str]
    left_out: list[str]
    datasets: list[DatasetPart]
    sources: list[str]
    baseline: str | None
    runs: list[RunPart]
    more: int


def write(place: Path, runs: Sequence[Run], file: Path, baseline: str | None) -> int:
    """Write the page of several runs; returns its bytes.

    Raises UserError where there is no place for it, for a baseline that there is not, and for
    records that cannot be read.
    """
    part = read(place.resolve().name, runs, baseline)
    return writing.write(file, "comparison.html", title=f"{part.name}, compared", part=part)


def read(name: str, runs: Sequence[Run], baseline: str | None = None) -> ComparisonPart:
    """What the page holds. Where nothing can be compared it says so, and shows the runs."""
    shown = [_of_run(run) for run in runs[:MOST_RUNS]]
    more = len(runs) - len(shown)
    try:
        compared = comparison.compare(runs, baseline)
    except UserError as error:
        if baseline is not None:
            raise
        state = f"{counted(len(runs), 'run')}."
        return ComparisonPart(name, state, [str(error)], [], [], [], None, shown, more)
    return ComparisonPart(
        name,
        _state(runs, compared),
        compared.warnings,
        compared.left_out,
        [_of_dataset(dataset, compared) for dataset in compared.datasets],
        _sources(compared.groups),
        baseline,
        shown,
        more,
    )


def _of_run(run: Run) -> RunPart:
    try:
        return run_part.read(run)
    except UserError as error:
        return run_part.unreadable(run, str(error))


def _state(runs: Sequence[Run], compared: Comparison) -> str:
    count = sum(len(group.runs) for group in compared.groups)
    groups = counted(len(compared.groups), "group")
    return f"{groups}, {count} of {counted(len(runs), 'run')} in means over seeds."


def _of_dataset(dataset: str, compared: Comparison) -> DatasetPart:
    groups = compared.of_dataset(dataset)
    drawings = [_drawing(metric, groups, compared.split) for metric in compared.metrics]
    tables = [_table(metric, groups, compared.baseline) for metric in compared.metrics]
    return DatasetPart(
        dataset,
        [table for table in tables if table.rows],
        [drawing for drawing in drawings if drawing],
        _settings(groups),
    )


def _table(metric: Metric, groups: Sequence[Group], baseline: str | None) -> Table:
    """A row for each group that has the metric; columns that are empty in all are left out."""
    rows = {
        group.name: _cells(metric, group.measured[metric.name], group, baseline)
        for group in groups
        if metric.name in group.measured
    }
    titles = [*TITLES.values(), f"beside {baseline}", "in the paper", "seeds"]
    columns = [
        place for place in range(len(titles)) if any(cells[place] for cells in rows.values())
    ]
    return Table(
        numbers.title(metric),
        ("group", *(titles[place] for place in columns)),
        [(name, *(cells[place] for place in columns)) for name, cells in rows.items()],
    )


def _cells(metric: Metric, measured: Measured, group: Group, baseline: str | None) -> list[str]:
    spreads = measured.spreads
    difference = measured.difference if baseline else None
    seeds = ", ".join(map(str, sorted(group.runs)))
    return [
        *(numbers.spread(metric, spreads[kind]) if kind in spreads else "" for kind in VALUES),
        numbers.difference(metric, difference) if difference else "",
        numbers.published(measured.published),
        f"{len(group.runs)} ({seeds})" if len(group.runs) <= 10 else str(len(group.runs)),
    ]


def _drawing(metric: Metric, groups: Sequence[Group], split: str) -> Drawing | None:
    """A line for each group that has the metric, with a band over its seeds."""
    measured = [group for group in groups if metric.name in group.measured]
    series, notes = [], []
    for group in measured:
        band, missing = curves.measured_in_all(group, metric, split)
        series.append(_line(metric, group, band))
        notes += missing
    if any(len(one.low) for one in series):
        notes.insert(0, "Bands reach one standard deviation over seeds to each side of the mean.")
    title = f"{numbers.title(metric)}, {run_part.SPLITS.get(split, split)}"
    return chart.drawn(Chart(title, series, " ".join(notes)))


def _line(metric: Metric, group: Group, band: Band) -> Series:
    """The mean at the epochs in which all seeds were measured, of shares in percent."""
    scale = 100 if metric.is_share else 1
    means = [scale * mean for mean in band.means]
    name = f"{group.name} ({counted(len(group.runs), 'seed')})"
    if len(group.runs) < 2:
        return Series(name, band.epochs, means)
    spans = [scale * deviation for deviation in band.deviations]
    low = [mean - span for mean, span in zip(means, spans)]
    return Series(name, band.epochs, means, low, [mean + span for mean, span in zip(means, spans)])


def _settings(groups: Sequence[Group]) -> Table:
    """In which the groups differ: a row for each setting, a column for each group."""
    names = list(dict.fromkeys(name for group in groups for name in group.settings))
    rows = [
        (f"--{name}", *(group.settings.get(name, "") or "no effect" for group in groups))
        for name in names
    ]
    header = ("flag", *(group.name for group in groups))
    return Table("Settings in which the groups differ", header, rows)


def _sources(groups: Sequence[Group]) -> list[str]:
    """Where published numbers come from."""
    reported = [each.published for group in groups for each in group.measured.values()]
    return list(dict.fromkeys(one.source for one in reported if one))
