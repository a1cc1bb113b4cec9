"""Query expansion and re-ranking in galleries that need not fit into memory.

Only what lies around the answers is looked at, by whatever search there is.
"""

from collections.abc import Callable

import numpy as np
import torch

from evaluation import large_search
from evaluation.large_search import Found, Rows
from evaluation.refinement import Expansion, expanded
from evaluation.reranking import AVERAGED, GROWN_BY, LISTED, Encodings, Measure, reordered

REORDERED = 100  # of the nearest, at least, are ordered anew
PAIRS_AT_ONCE = 2**16  # whose distances are measured

# (queries [Q, D], the row that each does not find [Q] or -1, k) -> the k nearest of each
Find = Callable[[np.ndarray, np.ndarray, int], Found]


def asked_again(
    find: Find, rows: Rows, queries: np.ndarray, own: np.ndarray, expansion: Expansion
) -> np.ndarray:
    """[Q, D]: the expanded queries of queries [Q, D]. `own` [Q] are rows that they do not find."""
    found = find(queries, own, expansion.neighbours)
    neighbours = rows.take(found.places.clip(min=0).ravel()).reshape(*found.places.shape, -1)
    similarities = np.where(found.places >= 0, 1 - found.squared / 2, 0)
    asked, others, weights = map(torch.from_numpy, (queries, neighbours, similarities))
    return expanded(asked, others, weights, expansion.alpha).numpy()


def reranked(find: Find, rows: Rows, queries: np.ndarray, own: np.ndarray, k: int) -> Found:
    """The k nearest of queries [Q, D], of which the first REORDERED, or k, are ordered anew.

    `squared` stays the plain distance, so that it need not ascend.
    """
    plain = find(queries, own, max(k, REORDERED))
    known = _Neighbours(find, rows)
    around = _joined(plain.places, own)
    for depth in (AVERAGED - 1, LISTED, GROWN_BY):  # what encodings are made of, step by step
        around = _joined(around, known.of(around).places[:, :depth])
    near = known.of(around)
    encodings = Encodings(_numbered(near, around), _measure(rows, rows.take(around), around))
    asked, places = _numbered(plain, around), _positions(own, around)
    measure = _measure(rows, queries, around)
    similar = encodings.similar(encodings.of_queries(asked, places, measure))
    order = reordered(asked, places, similar, measure, only_listed=True)[:, :k]
    chosen = np.where(order >= 0, around[order], -1)
    return Found(large_search.squared_distances(rows, queries, chosen), chosen)


class _Neighbours:
    """The nearest rows of rows, searched when they are asked for first."""

    def __init__(self, find: Find, rows: Rows):
        self.find, self.rows = find, rows
        self.asked = np.empty(0, dtype=np.int64)  # ascending
        self.found = Found(np.empty((0, LISTED)), np.empty((0, LISTED), dtype=np.int64))

    def of(self, places: np.ndarray) -> Found:
        """[M, LISTED]: of the rows at places [M], which are ascending."""
        new = np.setdiff1d(places, self.asked)
        if len(new):
            found = _filled(self.find(self.rows.take(new), new, LISTED))
            asked = np.concatenate([self.asked, new])
            order = asked.argsort()
            self.asked = asked[order]
            both = zip(self.found, found)
            self.found = Found(*(np.concatenate([old, more])[order] for old, more in both))
        positions = np.searchsorted(self.asked, places)
        return Found(*(part[positions] for part in self.found))


def _filled(found: Found) -> Found:
    """[Q, LISTED] neighbours, with none where there are fewer."""
    lacking = ((0, 0), (0, LISTED - found.places.shape[1]))
    return Found(
        np.pad(found.squared, lacking, constant_values=np.inf),
        np.pad(found.places, lacking, constant_values=-1),
    )


def _joined(*places: np.ndarray) -> np.ndarray:
    """All of them once, ascending, but for -1."""
    joined = np.unique(np.concatenate([part.ravel() for part in places]))
    return joined[joined >= 0]


def _positions(places: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Where places stand in `around`, -1 for those that do not."""
    positions = np.searchsorted(around, places).clip(max=len(around) - 1)
    return np.where(around[positions] == places, positions, -1)


def _numbered(found: Found, around: np.ndarray) -> Found:
    """With positions in `around` in the place of rows."""
    return found._replace(places=_positions(found.places, around))


def _measure(rows: Rows, queries: np.ndarray, around: np.ndarray) -> Measure:
    """Squared distances between some of the queries and rows at positions in `around`."""

    def measure(of_queries: np.ndarray, positions: np.ndarray) -> np.ndarray:
        squared = np.empty(len(positions))
        for start in range(0, len(positions), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            places = around[positions[part]][:, None]
            asking = queries[of_queries[part]]
            squared[part] = large_search.squared_distances(rows, asking, places)[:, 0]
        return squared

    return measure
