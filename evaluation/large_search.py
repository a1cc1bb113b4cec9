"""Nearest neighbours by cosine in galleries that need not fit into memory.

A library, or one pass over all rows, lists candidates in float32; these are measured again in
float64 as `neighbours` measures, and ordered by distance, then by row. So a similarity is the same
number whatever listed it, and an index that approximates can only miss neighbours.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from evaluation import faiss_library
from evaluation.neighbours import LONGEST
from utilities.errors import UserError
from utilities.progress import progress

ROWS_AT_ONCE = 2**16
NUMBERS_AT_ONCE = 2**22  # of candidates that are measured again
PAIRS_IN_CACHE = 2**9
LISTED_SPARE = 1  # candidates of an index beyond those asked, of many that it lists
SPARE = 16  # candidates of a pass over all rows beyond those asked
MOST_SPARE = 4096  # beyond that equal distances are a crowd, of which any may be listed
DOUBT = 1e-5  # cosines that differ by less may be in the wrong order in float32

# (unit queries [Q, D], count) -> candidates [Q, count], -1 for none.
Lister = Callable[[np.ndarray, int], np.ndarray]


class Rows:
    """Rows [N, D] float32 in parts, each an array or a file that numpy maps into memory."""

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = [np.asarray(part) for part in parts]  # subclasses of arrays are slower to read
        self.starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def dimension(self) -> int:
        return self.parts[0].shape[1]

    def whole(self) -> np.ndarray:
        """All of them in memory, where torch may have them: it warns of what cannot be written."""
        rows = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)
        return np.require(rows, requirements="W")

    def units(self) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of rows at length 1, in their order, each with its first place.

        Raises UserError for numbers that are not finite.
        """
        for start in range(0, len(self), ROWS_AT_ONCE):
            rows = self._between(start, min(start + ROWS_AT_ONCE, len(self)))
            require_finite(rows, start)
            block = torch.from_numpy(rows)
            yield start, normalize(block, dim=1, out=block).numpy()

    def take(self, places: np.ndarray) -> np.ndarray:
        """[M, D]: the rows at places [M]."""
        order, grouped = self.grouped(places)
        return _put_back(grouped, order)

    def grouped(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[M] an order of places [M], by the parts that they are in, and the rows in it [M, D]."""
        order, groups = self.by_part(places)
        rows = np.empty((len(places), self.dimension), dtype=np.float32)
        for part, group, within in groups:
            np.take(part, within, axis=0, out=rows[group], mode="clip")  # "raise" copies once more
        return order, rows

    def by_part(
        self, places: np.ndarray
    ) -> tuple[np.ndarray, Iterator[tuple[np.ndarray, slice, np.ndarray]]]:
        """An order [M] of places [M], and for each part that has any: which of the order, where."""
        numbers = np.searchsorted(self.starts[1:], places, side="right")
        kind = (
            np.uint16 if len(self.parts) < 2**16 else np.int64
        )  # of small numbers it sorts by digits
        numbers = numbers.astype(kind)
        order = numbers.argsort(kind="stable")
        present, firsts = np.unique(numbers[order], return_index=True)
        bounds = [*firsts.tolist(), len(places)]
        groups = (
            (self.parts[number], slice(*bound), places[order[slice(*bound)]] - self.starts[number])
            for number, bound in zip(present.tolist(), pairwise(bounds))
        )
        return order, groups

    def _between(self, start: int, stop: int) -> np.ndarray:
        """A copy of the rows from `start` to `stop`."""
        first, last = np.searchsorted(self.starts, [start, stop - 1], side="right") - 1
        pieces = [
            part[max(0, start - begin) : stop - begin]
            for part, begin in zip(self.parts[first : last + 1], self.starts[first:].tolist())
        ]
        return np.concatenate(pieces)


class Found(NamedTuple):
    """Neighbours of Q queries, the nearest first.

    Attributes:
        squared: [Q, k] float64 squared distances at length 1, inf where there are fewer.
        places: [Q, k] int64, their rows, -1 there.
    """

    squared: np.ndarray
    places: np.ndarray


def comparable(rows: np.ndarray) -> np.ndarray:
    """[N] bool: which rows [N, D] float32 are finite, and so are all distances between them."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.einsum("nd,nd->n", rows, rows) < LONGEST**2


def require_finite(rows: np.ndarray, start: int = 0) -> None:
    """Raises UserError where rows [N, D] are not `comparable`.

    The first of them is `start` of a gallery.
    """
    is_comparable = comparable(rows)
    if not is_comparable.all():
        place = start + int(is_comparable.argmin())
        raise UserError(
            f"The gallery holds embeddings that are not finite, from row {place} on, or too large "
            "for distances; make it anew."
        )


def unit(rows: np.ndarray) -> np.ndarray:
    """A copy [N, D] float32 of rows at length 1."""
    return normalize(torch.from_numpy(rows), dim=1).numpy()


def nearest(
    rows: Rows, queries: np.ndarray, own_places: np.ndarray, k: int, candidates: Lister
) -> Found:
    """The k nearest of what `candidates` lists for each query.

    Args:
        queries: [Q, D]. own_places: [Q], the row that a query does not find, or -1.
    """
    units, most = unit(queries), k + int((own_places >= 0).any())
    listed = candidates(units, min(most, len(rows)))
    if listed.shape[1] > most + LISTED_SPARE:
        listed = _nearer(rows, units, listed, most + LISTED_SPARE)
    return measured(rows, queries, own_places, k, listed)


def exact(
    rows: Rows, queries: np.ndarray, own_places: np.ndarray, k: int, spare: int = SPARE
) -> Found:
    """The k nearest of all rows, in one pass over them.

    Queries with equal distances at the end of their list are asked again for a longer one.
    """
    count = min(k + 1 + spare, len(rows))
    cosines, listed = _most_similar(rows, unit(queries), count)
    may_be_near = cosines >= cosines[:, min(k, count - 1), None] - DOUBT
    found = measured(rows, queries, own_places, k, listed[:, : may_be_near.sum(1).max()])
    if count < len(rows) and spare < MOST_SPARE:
        unsure = cosines[:, k] - cosines[:, -1] <= DOUBT
        if unsure.any():
            longer = exact(rows, queries[unsure], own_places[unsure], k, 8 * spare)
            found.squared[unsure], found.places[unsure] = longer
    return found


def measured(
    rows: Rows, queries: np.ndarray, own_places: np.ndarray, k: int, candidates: np.ndarray
) -> Found:
    """The k nearest of candidates [Q, L] (-1: none) by their distances in float64."""
    shape = len(queries), min(k, candidates.shape[1])
    found = Found(np.empty(shape), np.empty(shape, dtype=np.int64))
    for part in _parts(rows, candidates):
        places = np.sort(candidates[part], axis=1)
        squared = _squared(rows, queries[part], places)
        squared[(places < 0) | (places == own_places[part, None])] = np.inf
        order = squared.argsort(axis=1, kind="stable")[:, : shape[1]]
        found.squared[part] = np.take_along_axis(squared, order, axis=1)
        found.places[part] = np.take_along_axis(places, order, axis=1)
    found.places[np.isinf(found.squared)] = -1
    return found


def squared_distances(rows: Rows, queries: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[Q, L] float64: of queries [Q, D] to rows at places [Q, L], at length 1; inf where -1."""
    squared = np.empty(places.shape)
    for part in _parts(rows, places):
        squared[part] = _squared(rows, queries[part], places[part])
    squared[places < 0] = np.inf
    return squared


def recall(found: Found, truth: Found) -> float:
    """The share of the true neighbours that was found; equally distant ones stand for another.

    Where there are none to find, none are missed.
    """
    if not np.isfinite(truth.squared).any():
        return 1.0
    farthest = np.where(np.isfinite(truth.squared), truth.squared, -np.inf).max(axis=1)
    hits = (found.squared <= farthest[:, None]).sum()
    return float(hits / np.isfinite(truth.squared).sum())


def _nearer(rows: Rows, units: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """[Q, count] of the places [Q, L] (-1: none): those nearest to unit queries, in float32."""
    is_there = places >= 0
    queries = np.nonzero(is_there)[0]
    order, groups = rows.by_part(places[is_there])
    queries = queries[order]
    cosines = np.empty(len(queries), dtype=np.float32)
    for part, group, within in groups:
        products = faiss_library.products(units, queries[group], part, within)
        squares = faiss_library.products(part, within, part, within)
        cosines[order[group]] = products / np.sqrt(np.maximum(squares, 1e-24))
    farness = np.full(places.shape, np.inf, dtype=np.float32)
    farness[is_there] = -cosines
    columns = np.argpartition(farness, count - 1, axis=1)[:, :count]
    return np.take_along_axis(places, columns, axis=1)


def _parts(rows: Rows, places: np.ndarray) -> Iterator[slice]:
    """Queries whose candidates [Q, L] are looked at together."""
    step = max(1, NUMBERS_AT_ONCE // max(1, places.shape[1] * rows.dimension))
    for start in range(0, len(places), step):
        yield slice(start, start + step)


def _squared(rows: Rows, queries: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[Q, L] float64: squared distances of queries [Q, D] to rows at places [Q, L].

    As `normalize(query) - normalize(row)` gives it to the last bit, in the order in which rows are
    quick to read, so many at a time as the caches of a core hold.
    """
    order, others = rows.grouped(places.clip(min=0).ravel())
    own = normalize(torch.from_numpy(queries).double(), dim=1)
    asking = torch.from_numpy(order // max(1, places.shape[1]))
    squared = torch.empty(len(order), dtype=torch.float64)
    # Memory that is used again: fresh memory takes longer than the numbers in it.
    numbers = torch.empty(2, min(PAIRS_IN_CACHE, len(order)), rows.dimension, dtype=torch.float64)
    for start in range(0, len(order), PAIRS_IN_CACHE):
        part = slice(start, start + PAIRS_IN_CACHE)
        there, here = numbers[:, : len(squared[part])]
        there.copy_(torch.from_numpy(others[part]))
        torch.index_select(own, 0, asking[part], out=here)
        lengths = torch.linalg.vector_norm(there, dim=1, keepdim=True).clamp_(min=1e-12)
        there.div_(lengths).sub_(here).square_()
        torch.sum(there, 1, out=squared[part])
    return _put_back(squared.numpy(), order).reshape(places.shape)


def _put_back(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[M, ...]: values that stand in an order [M]."""
    result = np.empty_like(values)
    result[order] = values
    return result


def _most_similar(rows: Rows, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines [Q, count], descending, and places of the rows nearest to unit queries [Q, D]."""
    best = np.empty((len(queries), 0), dtype=np.float32)
    places = np.empty((len(queries), 0), dtype=np.int64)
    with progress(None, "Searching", total=len(rows), unit=" rows") as bar:
        for start, block in rows.units():
            cosines, columns = faiss_library.most_similar(block, queries, min(count, len(block)))
            best = np.concatenate([best, cosines], axis=1)
            places = np.concatenate([places, columns + start], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :count]
            best = np.take_along_axis(best, order, axis=1)
            places = np.take_along_axis(places, order, axis=1)
            bar.update(len(block))
    return best, places
