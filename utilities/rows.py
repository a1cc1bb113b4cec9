"""Rows of the tables that boards show; as records need none, no torch is loaded."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image


class Picture(NamedTuple):
    """A picture in a table, with a line of text; `read` gives None where it cannot be read."""

    read: "Callable[[], Image.Image | None]"
    caption: str


Row = dict[str, object]  # by the columns of the table
