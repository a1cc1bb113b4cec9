"""Similarities of classes that somebody has made: `--language_model matrix:FILE`.

A taxonomy, human judgements, another model. They are taken as they are; nothing is normalised.
"""

import csv
import io
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from utilities import text_file
from utilities.choices import ambiguous, called_twice, hint
from utilities.errors import UserError, named
from utilities.paths import expanded, require_readable
from utilities.rows import as_written

LOG = logging.getLogger(__name__)
KIND = "matrix"
FORMS = (
    "a .csv or .tsv with the names of classes in its first row and its first column, or .npy with "
    "the names in a .txt beside it, one a line"
)
SEPARATORS = {".csv": ",", ".tsv": "\t"}
TOLERANCE = 1e-6  # of a symmetric matrix, whose halves may have been rounded


class ClassMatrix(NamedTuple):
    """Similarities between the U names of a file that C classes use, which several may share."""

    similarities: torch.Tensor  # [U, U] float32
    rows: torch.Tensor  # [C] long, the row of each class
    names: list[str]  # U, as the file writes them


class _Table(NamedTuple):
    """What a file holds: a row and a column for each name."""

    names: list[str]
    values: np.ndarray  # [M, M] float64


def file_of(model: str) -> str | None:
    """FILE of `matrix:FILE`; None of another `--language_model`."""
    kind, _, file = model.partition(":")
    return file if kind == KIND else None


def read(file: str, classes: Sequence[tuple[str, ...]]) -> ClassMatrix:
    """The similarities of C classes, of each of which the first of its names counts that is there.

    Names of other classes are passed over. What is unusual (a matrix that is not symmetric, or that
    no cosine is like) is told.

    Raises:
        UserError: a file of another form, or one that lacks a class or has two rows of it.
    """
    table = _table(file)
    row_of = {name: row for row, name in enumerate(table.names)}
    found = [next((name for name in names if name in row_of), None) for names in classes]
    if missing := [names[0] for names, name in zip(classes, found) if name is None]:
        which = "class" if len(missing) == 1 else "classes"
        raise UserError(
            f"--language_model {KIND}:{file} has no row of the training {which} {named(missing)}; "
            + hint(missing, table.names, "it has")
        )
    if unclear := ambiguous(row_of, classes):
        raise UserError(f"--language_model {KIND}:{file}: {unclear}")
    if twice := called_twice(row_of, classes):
        raise UserError(
            f"--language_model {KIND}:{file} has rows of one class under two names, "
            f"{' and '.join(map(repr, twice[0]))}; leave one of them out."
        )
    used = list(dict.fromkeys(name for name in found if name is not None))
    chosen = [row_of[name] for name in used]
    part = _Table(used, _with_diagonal(table.values[np.ix_(chosen, chosen)]))
    _require_numbers(file, part)
    _tell_what_is_unusual(file, part)
    place_of = {name: place for place, name in enumerate(used)}
    rows = torch.tensor([place_of[name] for name in found if name is not None])
    return ClassMatrix(torch.from_numpy(part.values.astype(np.float32)), rows, used)


def _table(file: str) -> _Table:
    path = Path(expanded(file))
    try:
        require_readable(path)
        table = _of_array(path) if path.suffix.lower() == ".npy" else _of_cells(path)
        _require_once(table.names)
        return table
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"--language_model {KIND}:{file} cannot be read "
            f"({getattr(error, 'strerror', None) or error}); expected is {FORMS}."
        ) from error


def _require_once(names: list[str]) -> None:
    name, times = next(iter(Counter(names).most_common(1)), ("", 0))
    if not times:
        raise ValueError("it names no class")
    if times > 1:
        raise ValueError(f"the name {name!r} stands in it {times} times")


def _of_array(path: Path) -> _Table:
    values = np.load(path, allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise ValueError("it holds several arrays")
    names = [name.strip() for name in text_file.rows_of(path)]
    if values.shape != (len(names), len(names)) or values.dtype.kind not in "fiub":
        raise ValueError(f"{len(names)} names, and {values.dtype} of shape {values.shape}")
    return _Table(names, values.astype(np.float64))


def _of_cells(path: Path) -> _Table:
    separator = SEPARATORS.get(path.suffix.lower())
    if separator is None:
        raise ValueError(f"its name ends in {path.suffix or 'nothing'}")
    content = text_file.read_text(path)
    if separator == ",":
        text_file.require_commas(content)
    text = io.StringIO(content, newline="")
    cells = [row for row in csv.reader(text, delimiter=separator, strict=True) if any(row)]
    if len(cells) < 2:
        raise ValueError("it has no rows")
    columns = [as_written(name.strip()) for name in cells[0][1:]]
    names = [as_written(row[0].strip()) for row in cells[1:]]
    _require_once(columns)
    if "" in columns:
        raise ValueError(f"column {columns.index('') + 2} has no name")
    if other := sorted(set(columns) ^ set(names)):
        raise ValueError(f"rows and columns have other names: {named(other)}")
    values = np.array([_numbers(row, columns) for row in cells[1:]])
    place_of = {name: place for place, name in enumerate(columns)}
    return _Table(names, values[:, [place_of[name] for name in names]])


def _numbers(row: list[str], columns: list[str]) -> list[float]:
    name, *cells = row
    if len(cells) != len(columns):
        raise ValueError(f"the row of {name!r} has {len(cells)} cells, not {len(columns)}")
    return [_number(cell, name, column) for cell, column in zip(cells, columns)]


def _number(cell: str, row: str, column: str) -> float:
    """Not a number where the cell is empty: it may be of classes that are not used."""
    if not cell.strip():
        return float("nan")
    try:
        if "_" in cell:  # which float() passes over, so that 0_5 were 5
            raise ValueError
        return float(cell)
    except ValueError:
        raise ValueError(f"the cell of {row!r} and {column!r} is no number: {cell!r}") from None


def _with_diagonal(values: np.ndarray) -> np.ndarray:
    """The values with 1 where a class has none with itself."""
    is_missing = np.isnan(values) & np.eye(len(values), dtype=bool)
    return np.where(is_missing, 1.0, values)


def _require_numbers(file: str, table: _Table) -> None:
    """Raises UserError for a cell between two classes that is empty or not finite."""
    with np.errstate(over="ignore"):  # beyond float32, in which they are used
        broken = np.argwhere(~np.isfinite(table.values.astype(np.float32)))
    if not len(broken):
        return
    row, column = (table.names[place] for place in broken[0])
    others = f"; so it is in {len(broken)} cells" if len(broken) > 1 else ""
    raise UserError(
        f"--language_model {KIND}:{file}: the cell of {row!r} and {column!r} holds no finite "
        f"number{others}."
    )


def _tell_what_is_unusual(file: str, table: _Table) -> None:
    """A warning for each thing that may be a mistake."""
    values, name = table.values, f"{KIND}:{file}"
    difference = np.abs(values - values.T)
    if difference.max() > TOLERANCE * max(1.0, np.abs(values).max()):
        row, column = np.unravel_index(difference.argmax(), difference.shape)
        LOG.warning(
            "%s is not symmetric (%s and %s: %g, the other way %g); each row is taken as it is.",
            name,
            table.names[row],
            table.names[column],
            values[row, column],
            values[column, row],
        )
    if values.min() < -1 or values.max() > 1:
        LOG.warning(
            "%s goes from %g to %g, cosines of images from -1 to 1: it is taken as it is.",
            name,
            values.min(),
            values.max(),
        )
    if values.max() - values.min() <= TOLERANCE:
        LOG.warning("%s: all similarities are %g, which tells no class apart.", name, values.min())
    others = values[~np.eye(len(values), dtype=bool)]
    if len(others) and values.diagonal().max() < others.min():
        LOG.warning(
            "%s: no class is as near to itself as to the others; are these distances? They are "
            "taken as similarities.",
            name,
        )
