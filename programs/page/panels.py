"""Retrieval as a page shows it: a query and its neighbours."""

from typing import NamedTuple

KINDS = {  # of queries: their name, and what it means
    "best": ("best", "the highest average precision"),
    "median": ("median", "about the median average precision"),
    "worst": ("worst", "the lowest average precision"),
    "class": ("one of each other class", "the middle one of its class"),
}


class Asked(NamedTuple):
    """How a run's images are embedded again.

    Attributes:
        panels: at most so many. source_path: where the data lies, if not where the run read it.
    """

    panels: int
    source_path: str | None
    device: str
    gpu: int
    precision: str
    batch_size: int
    workers: int
    on_bad_image: str


class Picture(NamedTuple):
    """An image as an address that holds it whole, `data:...`, and its pixels."""

    address: str
    width: int
    height: int


class Neighbour(NamedTuple):
    """Attributes: name: of its class. is_right: whether that is the query's."""

    picture: Picture
    name: str
    is_right: bool
    similarity: float


class Panel(NamedTuple):
    """A query and its neighbours, the nearest first.

    Attributes:
        kind: of KINDS. label, name: of its class. precision: average precision at R, by cosine.
    """

    kind: str
    label: int
    name: str
    file: str
    precision: float
    query: Picture
    neighbours: list[Neighbour]

    @property
    def right(self) -> int:
        """How many neighbours are of the query's class."""
        return sum(neighbour.is_right for neighbour in self.neighbours)
