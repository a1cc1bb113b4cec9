"""Rows of the tables that boards show; as records need none, no torch is loaded."""

import csv
import io
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


def readable(rows: Sequence[Row]) -> list[Row]:
    """The rows with escapes for bytes that are no text, as names of files may hold them."""
    return [{name: _as_text(cell) for name, cell in row.items()} for row in rows]


def as_csv(rows: Sequence[Row]) -> str:
    """The table without its pictures, with the columns of its first row."""
    return csv_text([_without_pictures(row) for row in readable(rows)])


def csv_text(rows: Sequence[Row]) -> str:
    """Plain values as a table, with the columns of its first row."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_text(cell: object) -> object:
    if isinstance(cell, Picture):
        return cell._replace(caption=in_escapes(cell.caption))
    return in_escapes(cell) if isinstance(cell, str) else cell


def _without_pictures(row: Row) -> Row:
    return {name: cell for name, cell in row.items() if not isinstance(cell, Picture)}
