"""What guidance reads of the classes of a split, as tables and figures that people read.

Tables have at most LISTED classes and figures fewer, at even steps, so that they take a second
whatever the size of the split.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from evaluation.figures import CLASSES, attempted, draw_similarities
from utilities.errors import in_escapes
from utilities.pictures import lettered, new_figure, save
from utilities.rows import csv_of
from utilities.run_folder import write_atomically

MATRIX = "similarities.png"
WRITTEN = ("similarities.csv", "nearest_classes.csv", MATRIX, "classes_*.png")
LISTED = 500  # classes in tables: their similarities are two megabytes
DRAWN = 100  # in a matrix, at most
NEAREST = 5  # classes by text
PICTURED, SAMPLES = 12, 4  # classes on a sheet, and pictures of each
SIDE = 96  # pixels of a picture
ROW, WIDTH = 1.0, 10.2  # inches of a class on a sheet
COLUMNS = 4.15, 7.2  # inches from the left to texts, and to the nearest classes
TEXT, TEXTS = 48, 5  # characters of a text beside pictures, and lines of them
LINE = 0.17  # inches from line to line


Reader = Callable[[int], Image.Image | None]  # of an image by its row; None: it cannot be read


class ClassView(NamedTuple):
    """
    Attributes:
        name: of the class. texts: what guidance reads of it, a line each. rows: some of its images.
    """

    name: str
    texts: list[str]
    rows: list[int]


class View(NamedTuple):
    """
    Attributes:
        classes: those that are shown, at most LISTED. total: number of all classes of the split.
        similarities: [S, S] of those shown. nearest: [S, K] places of the most similar ones.
    """

    classes: list[ClassView]
    total: int
    similarities: np.ndarray
    nearest: np.ndarray

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.classes]

    def near(self, place: int) -> list[tuple[str, float]]:
        """The names of the nearest classes of one, and their similarities."""
        names, values = self.names, self.similarities[place]
        return [(names[other], float(values[other])) for other in self.nearest[place]]

    def left_out(self) -> str:
        """A sentence on the classes that are not shown; nothing where all are."""
        shown = len(self.classes)
        if shown == self.total:
            return ""
        return (
            f"{shown:,} of {self.total:,} classes are listed, at even steps; the nearest classes "
            "are those among them."
        )


def at_even_steps(classes: int, most: int) -> list[int]:
    """At most so many of the classes 0..C-1."""
    return np.linspace(0, classes - 1, min(classes, most)).round().astype(int).tolist()


def clear(folder: Path) -> None:
    """Remove what is there of texts that were read before, and the folder if that was all."""
    for pattern in WRITTEN:
        for file in folder.glob(pattern):
            file.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def write_tables(folder: Path, view: View) -> None:
    """`similarities.csv`, a row and a column for each class, and `nearest_classes.csv`."""
    names = [in_escapes(name) for name in view.names]
    matrix = [
        [name, *(f"{value:.4f}" for value in values)]
        for name, values in zip(names, view.similarities.tolist())
    ]
    near = [
        [name, rank, in_escapes(other), f"{similarity:.4f}"]
        for place, name in enumerate(names)
        for rank, (other, similarity) in enumerate(view.near(place), start=1)
    ]
    tables: dict[str, Sequence[Sequence[object]]] = {
        "similarities.csv": [["class", *names], *matrix],
        "nearest_classes.csv": [["class", "rank", "nearest", "similarity"], *near],
    }
    for name, rows in tables.items():
        write_atomically(folder / name, csv_of(rows))


def draw(
    folder: Path, view: View, read: Reader, *, in_matrix: int = CLASSES, sheets: int = 1
) -> None:
    """`similarities.png`, and `classes_1.png` and so on with pictures and texts of classes.

    One that cannot be drawn is told and left out.

    Args:
        in_matrix: classes in it, at most. sheets: of PICTURED classes each, at most.
    """
    matrices = {"language": view.similarities}
    draw_language = partial(draw_matrix, matrices=matrices, view=view, most=in_matrix)
    attempted(draw_language, folder / MATRIX)
    chosen = at_even_steps(len(view.classes), sheets * PICTURED)
    for start in range(0, len(chosen), PICTURED):
        draw_some = partial(
            draw_sheet, view=view, places=chosen[start : start + PICTURED], read=read
        )
        attempted(draw_some, folder / f"classes_{start // PICTURED + 1}.png")


def draw_matrix(file: Path, matrices: dict[str, np.ndarray], view: View, most: int = DRAWN) -> Path:
    """Similarities [S, S] of the classes of a view, of so many at most; returns the file."""
    places = at_even_steps(len(view.classes), most)
    square = np.ix_(places, places)
    shown = f", {len(places)} of {view.total:,} classes" if len(places) < view.total else ""
    drawn = {f"{title}{shown}": values[square] for title, values in matrices.items()}
    return draw_similarities(file, drawn, [view.names[place] for place in places])


def draw_sheet(file: Path, view: View, places: Sequence[int], read: Reader) -> Path:
    """Some pictures of each class beside what guidance reads of it; returns the file."""
    lines = {place: _lines(view, place) for place in places}
    names = [view.classes[place].name for place in places]
    written = [line for texts in lines.values() for column in texts for line in column]
    with lettered([*names, *written], TEXT) as shown:
        figure = new_figure(WIDTH, ROW * len(places))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        pictures = np.concatenate([_row(view.classes[place].rows, read) for place in places])
        axes.imshow(pictures, extent=(0, ROW * SAMPLES, ROW * len(places), 0), aspect="auto")
        axes.set(xlim=(0, WIDTH), ylim=(ROW * len(places), 0))
        for number, (place, name) in enumerate(zip(places, names)):
            top = ROW * number + 0.06
            axes.text(COLUMNS[0], top, shown[name], va="top", fontsize=9, weight="bold")
            for left, column in zip(COLUMNS, lines[place]):
                for below, line in enumerate(column, start=1):
                    axes.text(left, top + LINE * below, shown[line], va="top", fontsize=7.5)
        return save(figure, file, dpi=SIDE, tight=False)


def _lines(view: View, place: int) -> tuple[list[str], list[str]]:
    """What stands beside the pictures of a class: its texts, and the nearest classes."""
    texts = view.classes[place].texts
    shown = texts if len(texts) <= TEXTS else [*texts[: TEXTS - 1], "..."]
    return shown, [f"{similarity:.2f}  {name}" for name, similarity in view.near(place)[:3]]


def _row(rows: Sequence[int], read: Reader) -> np.ndarray:
    """Pictures side by side, [SIDE, SAMPLES * SIDE, 3]; white where there is none."""
    strip = Image.new("RGB", (SAMPLES * SIDE, SIDE), "white")
    for number, row in enumerate(rows[:SAMPLES]):
        if image := read(row):
            fitting = ImageOps.pad(image.convert("RGB"), (SIDE - 4, SIDE - 4), color="white")
            strip.paste(fitting, (number * SIDE + 2, 2))
    return np.asarray(strip)
