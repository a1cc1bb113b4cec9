"""Metrics of groups over the epochs, in one figure: mean over seeds, and a band around it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from programs.results import numbers
from programs.results.comparison import Comparison, Group
from programs.results.groups import in_words
from programs.results.metric_names import Metric
from programs.results.statistics import spread
from utilities.errors import UserError, on_one_line
from utilities.pictures import lettered, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PANEL = 4.6, 3.4  # inches
# Told apart by colour-blind people (Okabe and Ito, 2008); further groups by the line as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
STYLES = ("-", "--", "-.", ":")
LONGEST_NAME = 60  # characters
NAME_BELOW_PANEL = 36  # characters that a column of the legend has room for


class Band(NamedTuple):
    """Of a group: the epochs in which all its seeds were measured, with mean and deviation there.

    A deviation of one seed is 0.
    """

    epochs: list[int]
    means: list[float]
    deviations: list[float]


def draw(comparison: Comparison, file: Path) -> list[str]:
    """Write the figure: a row of panels for each dataset, one for each metric.

    Returns a sentence for all that it cannot show. Raises UserError for a file that cannot be
    written.
    """
    datasets, metrics = comparison.datasets, comparison.metrics
    groups = list(dict.fromkeys(group.name for group in comparison.groups))
    texts = [*groups, *datasets, *map(numbers.title, metrics)]
    not_shown: list[str] = []
    with lettered(texts, LONGEST_NAME) as shown:
        figure = new_figure(PANEL[0] * len(metrics), PANEL[1] * len(datasets))
        panels = figure.subplots(len(datasets), len(metrics), squeeze=False)
        lines: dict[str, Line2D] = {}
        for row, dataset in zip(panels, datasets):
            for axes, metric in zip(row, metrics):
                members = comparison.of_dataset(dataset)
                measured = [group for group in members if metric.name in group.measured]
                for group in measured:
                    band, missing = measured_in_all(group, metric, comparison.split)
                    not_shown += missing
                    lines[group.name] = _draw_band(axes, metric, band, groups.index(group.name))
                axes.set(title=f"{shown[dataset]}, {comparison.split}", xlabel="epoch")
                axes.set_ylabel(shown[numbers.title(metric)])
                axes.xaxis.get_major_locator().set_params(integer=True)
                axes.grid(alpha=0.3)
                axes.set_visible(bool(measured))
        figure.tight_layout()
        _add_legend(figure, {shown[name]: line for name, line in lines.items()}, len(metrics))
        save(figure, file)
    return not_shown


def measured_in_all(group: Group, metric: Metric, split: str) -> tuple[Band, list[str]]:
    """The band of a group, and a sentence for what is no part of it."""
    of_seeds, missing = _read(group, metric, split)
    every = set().union(*of_seeds.values())
    shared = sorted(epoch for epoch in every if all(epoch in of for of in of_seeds.values()))
    spreads = [spread([of[epoch] for of in of_seeds.values()]) for epoch in shared]
    band = Band(shared, [of.mean for of in spreads], [of.std or 0.0 for of in spreads])
    key = group.dataset, group.name
    if len(shared) < len(every):
        missing.append(
            f"{in_words(key)}: the curve of {metric.name} has the {len(shared)} epochs that all "
            f"its seeds have, of {len(every)} that any has."
        )
    return band, missing


def _read(
    group: Group, metric: Metric, split: str
) -> tuple[dict[int, dict[int, float]], list[str]]:
    """Seed -> epoch -> value, and a sentence for each seed that has none."""
    of_seeds, missing = {}, []
    for seed, run in group.runs.items():
        try:
            curve = run.curve(split, metric.key)
        except UserError as error:
            missing.append(on_one_line(str(error)))
            continue
        if curve.epochs:
            of_seeds[seed] = dict(zip(curve.epochs, curve.values))
        else:
            missing.append(f"{run.place} has no curve of {metric.name}.")
    return of_seeds, missing


def _draw_band(axes: "Axes", metric: Metric, band: Band, number: int) -> "Line2D":
    """The line, in the colour and style of the group's number."""
    scale = 100 if metric.is_share else 1
    means = [scale * mean for mean in band.means]
    deviations = [scale * deviation for deviation in band.deviations]
    colour = COLOURS[number % len(COLOURS)]
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    marker = "o" if len(means) == 1 else None  # a line of one point cannot be seen
    (line,) = axes.plot(band.epochs, means, color=colour, linestyle=style, marker=marker)
    if any(deviations):
        low = [mean - deviation for mean, deviation in zip(means, deviations)]
        high = [mean + deviation for mean, deviation in zip(means, deviations)]
        axes.fill_between(band.epochs, low, high, color=colour, alpha=0.18, linewidth=0)
    return line


def _add_legend(figure: "Figure", lines: Mapping[str, "Line2D"], panels: int) -> None:
    """Below the panels, in as many columns as their width has room for."""
    columns = panels * NAME_BELOW_PANEL // max(NAME_BELOW_PANEL, *map(len, lines))
    figure.legend(
        list(lines.values()),
        list(lines),
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=max(columns, 1),
    )
