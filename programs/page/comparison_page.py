"""The page of several runs: groups beside each other, over their seeds."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from programs.page import chart, run_part, writing
from programs.page.chart import Chart, Drawing, Series
from programs.page.run_part import RunPart, Table
from programs.page.text import counted, number
from programs.results import comparison
from programs.results.comparison import VALUES, Comparison, Group, Measured
from programs.results.metric_names import Metric
from programs.results.runs import Run
from programs.results.statistics import Paired, Spread
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
    shown = [run_part.read(run) for run in runs[:MOST_RUNS]]
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


def in_words(metric: Metric, spread: Spread) -> str:
    """Mean and standard deviation, of shares in percent: "48.7 ± 0.3"."""
    mean = _amount(metric, spread.mean)
    return mean if spread.std is None else f"{mean} ± {_amount(metric, spread.std)}"


def difference_in_words(metric: Metric, difference: Paired) -> str:
    """ "+0.4 (-0.1 to +0.9), 5 pairs": the mean and its interval."""
    text = _signed(metric, difference.mean)
    if difference.interval is not None:
        low, high = (_signed(metric, end) for end in difference.interval)
        text += f" ({low} to {high})"
    return f"{text}, {counted(len(difference.seeds), 'pair')}"


def over_seeds(name: str, curves: Sequence[Mapping[int, float]]) -> Series:
    """The mean over runs at the epochs that all have, with a band of a standard deviation.

    Args:
        curves: of each run epoch -> value.
    """
    epochs = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    values = [[curve[epoch] for curve in curves] for epoch in epochs]
    means = [statistics.fmean(each) for each in values]
    if len(curves) < 2:
        return Series(name, epochs, means)
    spans = [statistics.stdev(each) for each in values]
    low = [mean - span for mean, span in zip(means, spans)]
    high = [mean + span for mean, span in zip(means, spans)]
    return Series(f"{name} ({len(curves)} seeds)", epochs, means, low, high)


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
    unit = ", in percent" if metric.is_share else ""
    rows = {
        group.name: _cells(metric, group.measured[metric.name], group, baseline)
        for group in groups
        if metric.name in group.measured
    }
    titles = ["seeds", *TITLES.values(), f"beside {baseline}", "in the paper"]
    columns = [
        place for place in range(len(titles)) if any(cells[place] for cells in rows.values())
    ]
    return Table(
        f"{metric.name}{unit}",
        ("group", *(titles[place] for place in columns)),
        [(name, *(cells[place] for place in columns)) for name, cells in rows.items()],
    )


def _cells(metric: Metric, measured: Measured, group: Group, baseline: str | None) -> list[str]:
    spreads, reported = measured.spreads, measured.published
    difference = measured.difference if baseline else None
    seeds = ", ".join(map(str, sorted(group.runs)))
    return [
        f"{len(group.runs)} ({seeds})" if len(group.runs) <= 10 else str(len(group.runs)),
        *(in_words(metric, spreads[kind]) if kind in spreads else "" for kind in VALUES),
        difference_in_words(metric, difference) if difference else "",
        f"{reported.mean:.1f} ± {reported.std:.1f}" if reported else "",
    ]


def _drawing(metric: Metric, groups: Sequence[Group], split: str) -> Drawing | None:
    series = []
    for group in groups:
        curves = [run.curve(split, metric.key) for run in group.runs.values()]
        known = [dict(zip(curve.epochs, curve.values)) for curve in curves if curve.epochs]
        series.append(over_seeds(group.name, known))
    note = "Bands reach one standard deviation over seeds to each side of the mean."
    has_band = any(len(one.low) for one in series)
    title = f"{metric.name}, {run_part.SPLITS.get(split, split)}"
    return chart.drawn(Chart(title, series, note if has_band else ""))


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


def _amount(metric: Metric, value: float) -> str:
    return f"{100 * value:.1f}" if metric.is_share else number(value)


def _signed(metric: Metric, value: float) -> str:
    return f"{'-' if value < 0 else '+'}{_amount(metric, abs(value))}"
