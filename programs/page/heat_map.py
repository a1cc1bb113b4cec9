"""Similarities of classes as a drawing: by their images beside language, class by class."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from programs.page.text import number, visible
from utilities.pictures import abbreviated

CELL, LABELS = 14, 176  # units: side of a cell, room for names at the left
LETTERS = 24  # of a name there
# Of the colours from the least to the largest similarity: light to dark, in red, green and blue.
STOPS = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))
SHADES = 32
SHOWN_PAIRS = 8  # in each table


class Similarities(NamedTuple):
    """Of S classes: [S, S] cosine similarities by images, and by language where there is any."""

    names: list[str]
    by_images: np.ndarray
    by_language: np.ndarray | None = None
    correlation: float | None = None  # of the ranks of all pairs


class HeatMap(NamedTuple):
    """A matrix as it is drawn.

    Attributes:
        shades: colour -> path of SVG over all cells that have it. low, high: what the ends of the
            colours stand for. cells: [S][S] the values in words.
    """

    title: str
    shades: dict[str, str]
    low: str
    high: str
    cells: list[list[str]]


class Pair(NamedTuple):
    one: str
    other: str
    by_images: str
    by_language: str


class SimilarityPart(NamedTuple):
    """What the page has of class similarities.

    Attributes:
        labels: the names, short enough to stand beside a row. nearest: title of a map -> the pairs
            of classes that are most alike in it.
    """

    names: list[str]
    labels: list[str]
    maps: list[HeatMap]
    correlation: str
    nearest: dict[str, list[Pair]]

    @property
    def side(self) -> int:
        return CELL * len(self.names)

    @property
    def readout(self) -> list[dict[str, object]]:
        """What the script shows of two classes."""
        return [{"title": drawn.title, "cells": drawn.cells} for drawn in self.maps]


def laid_out(similarities: Similarities) -> SimilarityPart:
    """The matrices as drawings, and the pairs that are most alike."""
    matrices = {"by their images": similarities.by_images}
    if similarities.by_language is not None:
        matrices["in language"] = similarities.by_language
    correlation = similarities.correlation
    return SimilarityPart(
        similarities.names,
        abbreviated([visible(name) for name in similarities.names], LETTERS),
        [_drawn(title, values) for title, values in matrices.items()],
        "" if correlation is None else f"{correlation:.2f}",
        {
            title: _nearest(similarities.names, values, matrices)
            for title, values in matrices.items()
        },
    )


def colours() -> list[str]:
    """As in CSS, from the least to the largest similarity."""
    places = np.linspace(0, len(STOPS) - 1, SHADES)
    channels = [np.interp(places, range(len(STOPS)), channel) for channel in zip(*STOPS)]
    rounded = np.round(channels).astype(int).T.tolist()
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in rounded]


def _drawn(title: str, values: np.ndarray) -> HeatMap:
    others = values[np.triu_indices(len(values), 1)]  # the diagonal would take all contrast
    low, high = np.percentile(others, (1, 99))
    shares = ((values - low) / max(high - low, 1e-9)).clip(0, 1)
    numbers = (shares * (SHADES - 1)).round().astype(int)
    shades = {
        colour: _squares(numbers == shade)
        for shade, colour in enumerate(colours())
        if (numbers == shade).any()
    }
    cells = [[f"{value:.2f}" for value in row] for row in values.tolist()]
    return HeatMap(title, shades, number(float(low)), number(float(high)), cells)


def _squares(chosen: np.ndarray) -> str:
    """A path of SVG over the cells for which bool [S, S] is true."""
    places = (np.argwhere(chosen) * CELL).tolist()
    return "".join(f"M{across} {along}h{CELL}v{CELL}h-{CELL}z" for along, across in places)


def _nearest(
    names: list[str], values: np.ndarray, matrices: Mapping[str, np.ndarray]
) -> list[Pair]:
    """The pairs of classes with the largest values of one of the matrices."""
    ones, others = np.triu_indices(len(values), 1)
    order = np.argsort(-values[ones, others], kind="stable")[:SHOWN_PAIRS]
    pairs = []
    for one, other in zip(ones[order].tolist(), others[order].tolist()):
        by_images, *by_language = (f"{matrix[one, other]:.2f}" for matrix in matrices.values())
        pairs.append(Pair(names[one], names[other], by_images, "".join(by_language)))
    return pairs
