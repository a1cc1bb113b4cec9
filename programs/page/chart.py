"""Curves over epochs, laid out: where lines, marks and labels stand in a drawing."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from programs.page.text import number

WIDTH, HEIGHT = 360, 220  # units of a drawing, about pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 10, 34
STYLES = 8  # colours, dashes and marks that the style sheet tells apart
MOST_MARKS = 40  # epochs of a line: more marks hide it
NOTHING = "-"  # in the place of a value
MOST_ROWS = 50  # of a table of values
TINY = 1e-300  # of what is nearer no decimal step can be told

Scale = Callable[[float], float]  # from a number to its place


class Series(NamedTuple):
    """A line: values at epochs, and for a group the ends of a band at each."""

    name: str
    epochs: Sequence[int]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Chart(NamedTuple):
    """Lines over the same epochs. `note` is a sentence below."""

    title: str
    series: list[Series]
    note: str = ""


class Tick(NamedTuple):
    place: float
    label: str


class Line(NamedTuple):
    """A series as it is drawn.

    Attributes:
        style: number of its colour and dash. path, band: of SVG. marks: points of it.
        cells: epoch -> its value in words.
    """

    name: str
    style: int
    path: str
    band: str
    marks: list[tuple[float, float]]
    cells: dict[int, str]


class Drawing(NamedTuple):
    """A chart with all places.

    Attributes:
        epochs: all that any line has. columns: their places across. rows: those of the table.
    """

    chart: Chart
    lines: list[Line]
    across: list[Tick]
    along: list[Tick]
    epochs: list[int]
    columns: list[float]
    rows: list[int]

    @property
    def readout(self) -> dict[str, list]:
        """What the script shows of an epoch, by its place among the epochs."""
        cells = [[line.cells.get(epoch, NOTHING) for epoch in self.epochs] for line in self.lines]
        return {"epochs": self.epochs, "columns": self.columns, "cells": cells}

    @property
    def summary(self) -> str:
        """The chart in words, for who does not see it."""
        first, last = self.epochs[0], self.epochs[-1]
        span = f"epoch {first}" if first == last else f"epochs {first} to {last}"
        ends = [
            f"{line.name} ends at {list(line.cells.values())[-1]}"
            for line in self.lines
            if line.cells
        ]
        return f"{self.chart.title}, {span}: {'; '.join(ends)}."


def drawn(chart: Chart) -> Drawing | None:
    """The chart laid out; None where it has no value."""
    known = [series for series in chart.series if len(series.epochs)]
    if not known:
        return None
    epochs = sorted({epoch for series in known for epoch in series.epochs})
    numbers = [*_ends(known)]
    along = ticks(min(numbers), max(numbers), 5)
    across = ticks(epochs[0], epochs[-1], 6, whole=True)
    column = _scale(epochs[0], epochs[-1], LEFT, WIDTH - RIGHT)
    row = _scale(along[0], along[-1], HEIGHT - BOTTOM, TOP)
    lines = [_line(series, place % STYLES, column, row) for place, series in enumerate(known)]
    shown = [epoch for epoch in across if epochs[0] <= epoch <= epochs[-1]]
    return Drawing(
        chart,
        lines,
        [Tick(column(epoch), f"{epoch:,.0f}") for epoch in shown],
        [Tick(row(value), _tick_label(value, along)) for value in along],
        epochs,
        [column(epoch) for epoch in epochs],
        at_even_steps(epochs, MOST_ROWS),
    )


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers, about as many as asked, from at most `low` to at least `high`."""
    if high - low < TINY:
        margin = 1.0 if whole or abs(low) < TINY else abs(low) / 10
        low, high = low - margin, high + margin
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, round(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def at_even_steps(things: list, most: int) -> list:
    """At most so many of some things, the first and the last among them."""
    if len(things) <= most:
        return things
    return [things[round(place * (len(things) - 1) / (most - 1))] for place in range(most)]


def _ends(series: list[Series]) -> list[float]:
    """All numbers that must lie in the drawing."""
    return [number for one in series for part in (one.values, one.low, one.high) for number in part]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """A function from numbers to places, those of `low` and `high` at `start` and `end`."""
    if low == high:
        return lambda value: round((start + end) / 2, 1)
    return lambda value: round(start + (end - start) * (value - low) / (high - low), 1)


def _line(series: Series, style: int, column: Scale, row: Scale) -> Line:
    points = [(column(epoch), row(value)) for epoch, value in zip(series.epochs, series.values)]
    band = ""
    if len(series.low) and len(series.epochs) > 1:
        upper = [(column(epoch), row(value)) for epoch, value in zip(series.epochs, series.high)]
        lower = [(column(epoch), row(value)) for epoch, value in zip(series.epochs, series.low)]
        band = f"{_path(upper + lower[::-1])}Z"
    marks = points if len(points) <= MOST_MARKS else []
    return Line(series.name, style, _path(points), band, marks, _cells(series))


def _cells(series: Series) -> dict[int, str]:
    """Epoch -> the value in words, of a group with the ends of its band."""
    if not len(series.low):
        return {epoch: number(value) for epoch, value in zip(series.epochs, series.values)}
    spans = zip(series.epochs, series.values, series.low, series.high)
    return {
        epoch: f"{number(value)} ({number(low)} to {number(high)})"
        for epoch, value, low, high in spans
    }


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{across:g} {along:g}" for across, along in points)


def _tick_label(value: float, labelled: list[float]) -> str:
    """With as many digits as tell the labels apart."""
    step = labelled[1] - labelled[0]
    largest = max(abs(labelled[0]), abs(labelled[-1]))
    if largest >= 1e5 or largest < 1e-3:
        return f"{value:.1e}" if value else "0"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"
