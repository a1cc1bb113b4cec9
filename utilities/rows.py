"""Rows of the tables that boards show; as records need none, no torch is loaded."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from utilities.errors import in_escapes

if TYPE_CHECKING:
    from PIL import Image


class Picture(NamedTuple):
    """A picture in a table, with a line of text; `read` gives None where it cannot be read."""

    read: "Callable[[], Image.Image | None]"
    caption: str


Row = dict[str, object]  # by the columns of the table
# Beginnings that spreadsheets take for a formula, also behind the marks that make them none.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def readable(rows: Sequence[Row]) -> list[Row]:
    """The rows with escapes for bytes that are no text, as names of files may hold them."""
    return [{name: _as_text(cell) for name, cell in row.items()} for row in rows]


def as_csv(rows: Sequence[Row]) -> str:
    """The table without its pictures, with the columns of its first row."""
    return csv_text([_without_pictures(row) for row in readable(rows)])


def csv_text(rows: Sequence[Row]) -> str:
    """Plain values as a table, with the columns of its first row."""
    columns = list(rows[0])
    return csv_of([columns, *([row.get(name) for name in columns] for row in rows)])


def csv_of(rows: Sequence[Sequence[object]]) -> str:
    """Plain values as a table, in which no name or text is a formula to a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [_plain_cell(cell) for cell in row]
        # Python before 3.13 quotes no end of a line of another kind than its own.
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting if has_return else writer).writerow(cells)
    return text.getvalue()


def as_written(cell: str) -> str:
    """The text that stood in a cell before `csv_of` kept spreadsheets from evaluating it."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _plain_cell(cell: object) -> object:
    """Texts that would be a formula with a mark before them; numbers stay, also as text."""
    if not isinstance(cell, str) or not FORMULA.match(cell) or NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def _as_text(cell: object) -> object:
    if isinstance(cell, Picture):
        return cell._replace(caption=in_escapes(cell.caption))
    return in_escapes(cell) if isinstance(cell, str) else cell


def _without_pictures(row: Row) -> Row:
    return {name: cell for name, cell in row.items() if not isinstance(cell, Picture)}
