"""k-reciprocal re-ranking (Zhong, Zheng, Cao, Li, CVPR 2017), on sparse matrices.

Rows that have each other among their nearest are reciprocal neighbours. A row is encoded by those
that it has, and a gallery is ordered by how much of its encoding a query shares with each row
(Jaccard distance), beside the distance itself. Memory and time grow with the reciprocal neighbours,
not with the square of the gallery.

Two things differ from the paper's code. Distances are 1 - cosine, there they are divided by the
largest of a query. A query that does not lie in the gallery is encoded by it, but the gallery's
encodings do not change for the sake of a query: no query profits from others.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy import sparse

from evaluation.large_search import Found

# As in the paper: neighbours that are looked at, those whose encodings are averaged (the row itself
# is one of them), and the share of the distance in what orders in the end.
LISTED, AVERAGED, DISTANCE_SHARE = 20, 6, 0.3
GROWN_BY = LISTED // 2  # neighbours of a neighbour that may be taken along
SHARED = 2 / 3  # of which so many must be reciprocal neighbours already
DIGITS = 12  # of a distance in the end: sums of the same parts differ in their last bits
PAIRS_AT_ONCE = 2**22  # of an entry of a query's encoding and a row that has it too

# (queries or rows [M], rows [M]) -> squared distances [M] float64 at length 1
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Encodings:
    """How each of N rows is surrounded by the others: [N, N], sparse, each row with the sum 1.

    Args:
        near: the LISTED nearest of each row, itself left out. measure: distances of pairs of rows.
    """

    def __init__(self, near: Found, measure: Measure):
        self.count = len(near.places)
        itself = sparse.identity(self.count, dtype=np.int32, format="csr")
        self.grown_by = _reciprocal(_listed(near.places[:, :GROWN_BY], self.count)) + itself
        reciprocal = _reciprocal(_listed(near.places[:, :LISTED], self.count)) + itself
        is_full = near.places.shape[1] >= LISTED
        self.reach = near.squared[:, LISTED - 1] if is_full else np.full(self.count, np.inf)
        self.plain = self._weighted(reciprocal, measure)
        self.rows = _mean(self.plain, itself, near.places, self.plain)
        self.columns = self.rows.tocsc()

    def of_queries(self, near: Found, own: np.ndarray, measure: Measure) -> sparse.csr_matrix:
        """[Q, N]: the encodings of queries; those of their own rows [Q], where these are not -1."""
        inside = self.rows[own.clip(min=0)]
        if (own >= 0).all():
            return inside
        places = near.places[:, :LISTED]
        is_mutual = (places >= 0) & (near.squared[:, :LISTED] <= self.reach[places])
        reciprocal = _listed(np.where(is_mutual, places, -1), self.count)
        plain = self._weighted(reciprocal, measure)
        itself = sparse.identity(len(own), format="csr")
        outside = _mean(plain, itself, places, self.plain)
        chosen = sparse.diags((own >= 0).astype(float)) @ inside
        return (chosen + sparse.diags((own < 0).astype(float)) @ outside).tocsr()

    def similar(self, asked: sparse.csr_matrix) -> sparse.csr_matrix:
        """[Q, N]: what each row shares of the encodings of queries [Q, N] (Jaccard), from 0 to 1.

        Only pairs that share anything are looked at.
        """
        pairs = np.diff(self.columns.indptr)[asked.indices].cumsum()
        of_query = np.concatenate([[0], pairs])[asked.indptr[1:]]
        block_ends = np.flatnonzero(np.diff(of_query // PAIRS_AT_ONCE)) + 1
        bounds = [0, *block_ends.tolist(), asked.shape[0]]
        blocks = [self._similar(asked[start:stop]) for start, stop in pairwise(bounds)]
        return sparse.vstack(blocks, format="csr")

    def _similar(self, asked: sparse.csr_matrix) -> sparse.csr_matrix:
        sizes = np.diff(self.columns.indptr)[asked.indices]
        places = _ranges(self.columns.indptr[asked.indices], sizes)
        least = np.minimum(self.columns.data[places], np.repeat(asked.data, sizes))
        queries = np.repeat(np.repeat(np.arange(asked.shape[0]), np.diff(asked.indptr)), sizes)
        pairs = (queries, self.columns.indices[places])
        shared = sparse.csr_matrix((least, pairs), shape=asked.shape)  # adds up what is of a pair
        shared.data = shared.data / (2 - shared.data)  # both encodings have the sum 1
        return shared

    def _weighted(self, reciprocal: sparse.csr_matrix, measure: Measure) -> sparse.csr_matrix:
        """exp(-distance) on the grown sets of reciprocal neighbours [Q, N], with the sum 1."""
        grown = _grown(reciprocal, self.grown_by)
        queries = np.repeat(np.arange(grown.shape[0]), np.diff(grown.indptr))
        weights = np.exp(-measure(queries, grown.indices.astype(np.int64)) / 2)
        weighted = sparse.csr_matrix((weights, grown.indices, grown.indptr), shape=grown.shape)
        sums = np.bincount(queries, weights, minlength=grown.shape[0])
        return (sparse.diags(1 / np.where(sums > 0, sums, 1)) @ weighted).tocsr()


def reordered(
    near: Found,
    own: np.ndarray,
    similar: sparse.csr_matrix,
    measure: Measure,
    *,
    only_listed: bool = False,
) -> np.ndarray:
    """[Q, K]: places of the nearest K of all rows, by the distance that includes what they share.

    Rows that share nothing keep their order, so these are among the K nearest by plain distance
    and those that share something. Equal ones come in the order of their places.

    Args:
        own: [Q], the row that a query does not find, or -1. measure: distances of queries and rows.
        only_listed: no others than those of `near`.
    """
    if only_listed:
        similar = similar.multiply(_listed(near.places, similar.shape[1])).tocsr()
    (count, most), rows = near.places.shape, similar.shape[1]
    is_there = (near.places >= 0).ravel()
    plain = (np.arange(count)[:, None] * rows + near.places).ravel()[is_there]
    owners = np.repeat(np.arange(count), np.diff(similar.indptr))
    is_other = similar.indices != own[owners]
    sharing = (owners * rows + similar.indices)[is_other]
    keys, first = np.unique(np.concatenate([plain, sharing]), return_index=True)
    queries, places = np.divmod(keys, rows)
    squared, is_plain = np.empty(len(keys)), first < len(plain)
    squared[is_plain] = near.squared.ravel()[is_there][first[is_plain]]
    squared[~is_plain] = measure(queries[~is_plain], places[~is_plain])
    jaccard = np.zeros(len(keys))
    jaccard[np.searchsorted(keys, sharing)] = similar.data[is_other]
    scores = DISTANCE_SHARE * squared / 2 + (1 - DISTANCE_SHARE) * (1 - jaccard)
    scores = scores.round(DIGITS)
    order = np.lexsort((scores, queries))  # stable: equal ones stay in the order of their places
    found = np.bincount(queries, minlength=count)
    ranks = np.arange(len(keys)) - np.repeat(np.cumsum(found) - found, found)
    result = np.full((count, most), -1, dtype=np.int64)
    is_near = ranks < most
    result[queries[is_near], ranks[is_near]] = places[order][is_near]
    return result


def _listed(places: np.ndarray, count: int) -> sparse.csr_matrix:
    """[Q, N] of ones at places [Q, K] (-1: none)."""
    queries, columns = np.nonzero(places >= 0)
    ones = np.ones(len(queries), dtype=np.int32)
    pairs = (queries, places[queries, columns])
    return sparse.csr_matrix((ones, pairs), shape=(len(places), count))


def _reciprocal(listed: sparse.csr_matrix) -> sparse.csr_matrix:
    """Ones where two rows list each other."""
    return listed.multiply(listed.T).tocsr()


def _grown(sets: sparse.csr_matrix, by: sparse.csr_matrix) -> sparse.csr_matrix:
    """The sets [Q, N] with the smaller sets [N, N] of their members that lie largely inside."""
    common = (sets @ by.T).multiply(sets).tocsr()
    sizes = np.asarray(by.sum(axis=1)).ravel()
    common.data = (common.data > SHARED * sizes[common.indices]).astype(np.int32)
    grown = (sets + common @ by).tocsr()
    grown.eliminate_zeros()
    grown.sort_indices()
    return grown


def _mean(
    own: sparse.csr_matrix,
    itself: sparse.csr_matrix,
    places: np.ndarray,
    plain: sparse.csr_matrix,
) -> sparse.csr_matrix:
    """Of each encoding [Q, N] and those of the rows nearest to it."""
    nearest = _listed(places[:, : AVERAGED - 1], plain.shape[0])
    counts = 1 + np.diff(nearest.indptr)
    return (sparse.diags(1 / counts) @ (itself @ own + nearest @ plain)).tocsr()


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Places of ranges one after the other, each from its start on."""
    before = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) + np.repeat(starts - before, sizes)
