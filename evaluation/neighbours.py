"""Exact nearest neighbours in a gallery, in bounded memory.

Neighbours are ordered by their Euclidean distance in float64 (of unit vectors in the cosine space),
equal distances by the row in the gallery: whatever searches, in blocks of whatever size, the answer
is the same. A search in float32 is fast but cannot tell distances that differ by less than its
rounding. So each `Scan` in float32 measures its own rounding, and the few pairs that it leaves in
doubt are computed again in float64.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from evaluation import faiss_library
from metrics import COSINE

LONGEST = 1e18  # of embeddings; float32 holds the squares of what lies between these
SPARE = 64  # candidates beyond those asked, of a library that lists only the nearest
SAMPLED = 1024  # pairs at least from which the rounding of a scan is measured
# Distances are in doubt that differ by less than SAFETY times the largest rounding measured, or by
# less than the share LEAST of the terms that they are the sum of.
SAFETY = 8
LEAST = 4 * torch.finfo(torch.float32).eps
# Times the largest square of a distance to the mean is less than the largest of a length.
FAR_FROM_ORIGIN = 100
# So many candidates within the rounding of one distance count as equal: a collapsed space has no
# order.
CROWD = 4096
EXACT_BYTES = 72  # of memory for each number that is computed again in float64
EXACT_NUMBERS = 2**14, 2**21  # at once: at least and at most
FAR = torch.iinfo(torch.long).max  # the rank of what is farther than was looked
ROWS_AT_ONCE = 32  # rows of distances that one thread takes at a time


class Scan(NamedTuple):
    """Distances of Q queries to L candidates each, in float32.

    They hold until the gallery makes its next scan.

    Attributes:
        values: [Q, L], squared distances less `offsets`, inf where a query meets itself.
        columns: [Q, L] long, the gallery rows of the candidates, or None where they are the whole
            gallery in its order.
        offsets: [Q] float64.
        doubt: values that differ by less may be in the wrong order.
    """

    values: torch.Tensor
    columns: torch.Tensor | None
    offsets: torch.Tensor
    doubt: float

    def columns_at(self, queries: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """[M] long: the gallery rows of the candidates at `positions` [M] of `queries` [M]."""
        return positions if self.columns is None else self.columns[queries, positions]


class Gallery:
    """Rows [G, D] float32 to search in.

    `self_rows` [Q] of queries are their own rows in the gallery, which they do not find, or -1.

    Args:
        space: EUCLIDEAN or COSINE. depth: the largest rank that will be asked for.
        use_faiss: ask faiss's flat index for candidates instead of comparing all pairs by one
            product.
        memory: bytes that a search may use; what is computed in float64 takes half of them at most.
    """

    def __init__(
        self,
        rows: torch.Tensor,
        space: str,
        *,
        depth: int,
        use_faiss: bool = False,
        memory: int = 2**28,
    ):
        self.rows, self.space, self.depth = rows, space, min(depth, len(rows))
        least, most = EXACT_NUMBERS
        self.exact_numbers = max(least, min(most, memory // (2 * EXACT_BYTES)))
        lengths = rows.norm(dim=1)
        self.scales: torch.Tensor | None = None
        self.longest: torch.Tensor | float = lengths.max()
        if space == COSINE:
            self.scales, self.longest = 1 / lengths.clamp(min=1e-12), 1.0
        # Distances are taken from the mean: the product keeps small ones only near the origin.
        # Their squares are filled in place: small results kept between large ones scatter the
        # memory.
        self.squares = rows.new_empty(len(rows))
        self.mean = rows.new_zeros(rows.shape[1], dtype=torch.float64)
        for block, _ in self._exact_blocks():
            self.mean += block.sum(0) / len(rows)
        for block, squares in self._exact_blocks():
            squares.copy_((block - self.mean).square().sum(1))
        # A crowd far from the origin: what is left of the product of its rows there is rounding.
        self.is_far = bool(FAR_FROM_ORIGIN * self.squares.max() < self.longest**2)
        # One block of distances, used again: fresh memory is slow.
        self.buffer = rows.new_empty(0, len(rows))
        self.faiss_search: faiss_library.FlatSearch | None = None
        if use_faiss:
            self.faiss_search = faiss_library.flat_index(
                self._unit(rows), self.depth + SPARE, memory=memory
            )

    def scan(self, queries: torch.Tensor, self_rows: torch.Tensor) -> Scan:
        """Distances of queries [Q, D] to all rows, or to at least the nearest `depth`."""
        if self.faiss_search is not None:
            listed = self._scan_listed(self.faiss_search, queries, self_rows)
            scan = self._measured(listed, queries)
            if self._is_complete(scan):
                return scan
        return self._measured(self._scan_all(queries, self_rows), queries)

    def distances(
        self, queries: torch.Tensor, query_places: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """[M] float64 squared distances of pairs of a query and a row.

        Args:
            queries: [Q, D]. query_places: [M] long, the query of each pair. columns: [M] long, its
                gallery row.
        """
        step = self._exact_rows()
        squared = torch.empty(len(columns), dtype=torch.float64, device=columns.device)
        for start in range(0, len(columns), step):
            pairs = slice(start, start + step)
            squared[pairs] = (
                (self._exact(queries[query_places[pairs]]) - self._exact(self.rows[columns[pairs]]))
                .square()
                .sum(1)
            )
        return squared

    def _scan_all(self, queries: torch.Tensor, self_rows: torch.Tensor) -> Scan:
        """|x - m|^2 - 2 (q - m).x of all rows x with mean m.

        This is the squared distance less |q|^2 - |m|^2; with x - m for x, less |q - m|^2.
        """
        exact = self._exact(queries)
        centred = (exact - self.mean).float()
        values = self._compare_all(centred)
        row_length = self.squares.max().sqrt() if self.is_far else self.longest
        terms = self.squares.max() + 2 * centred.norm(dim=1).max() * row_length
        in_gallery = (self_rows >= 0).nonzero().squeeze(1)
        values[in_gallery, self_rows[in_gallery]] = torch.inf
        if self.is_far:
            offsets = (exact - self.mean).square().sum(1)
        else:
            offsets = exact.square().sum(1) - self.mean.square().sum()
        return Scan(values, None, offsets, LEAST * terms.item())

    def _compare_all(self, centred: torch.Tensor) -> torch.Tensor:
        """[Q, G], in the buffer: the values of `_scan_all` for queries [Q, D] less the mean."""
        if len(self.buffer) < len(centred):
            self.buffer = self.rows.new_empty(len(centred), len(self.rows))
        values = self.buffer[: len(centred)]
        if self.is_far:
            step = self._exact_rows()
            for rows, block in zip(self.rows.split(step), values.split(step, dim=1)):
                torch.mm(centred, (self._exact(rows) - self.mean).float().T, out=block)
            values.mul_(-2).add_(self.squares)
        elif self.scales is None:
            torch.addmm(self.squares, centred, self.rows.T, alpha=-2, out=values)
        else:
            torch.mm(centred, self.rows.T, out=values).mul_(self.scales * -2).add_(self.squares)
        return values

    def _scan_listed(
        self, search: faiss_library.FlatSearch, queries: torch.Tensor, self_rows: torch.Tensor
    ) -> Scan:
        """Distances to the nearest rows that faiss lists, ascending."""
        values, columns = search(self._unit(queries), min(self.depth + SPARE, len(self.rows)))
        terms = (self._unit(queries).norm(dim=1).max() + self.longest) ** 2
        values, order = values.masked_fill_(columns == self_rows[:, None], torch.inf).sort(dim=1)
        offsets = torch.zeros(len(queries), dtype=torch.float64, device=queries.device)
        return Scan(values, columns.gather(1, order), offsets, LEAST * terms.item())

    def _is_complete(self, scan: Scan) -> bool:
        """Whether a list surely holds the nearest `depth`: no ties reach beyond its end."""
        if scan.values.shape[1] == len(self.rows):
            return True
        values = scan.values.double()
        last = values.where(values.isfinite(), -torch.inf).amax(dim=1)  # of others than the query
        return bool((last > values[:, self.depth - 1] + 2 * scan.doubt).all())

    def _measured(self, scan: Scan, queries: torch.Tensor) -> Scan:
        """The scan with its doubt: the rounding of a sample of its values, with a margin."""
        each = -(-SAMPLED // len(queries))
        positions = torch.linspace(0, scan.values.shape[1] - 1, each, device=queries.device).long()
        if scan.columns is None:
            columns = positions.expand(len(queries), -1)
        else:
            columns = scan.columns[:, positions]
        query_places = torch.arange(len(queries), device=queries.device).repeat_interleave(each)
        exact = self.distances(queries, query_places, columns.flatten()).view_as(columns)
        errors = (scan.values[:, positions] + scan.offsets[:, None] - exact).abs()
        largest_error = errors.nan_to_num(0, 0).max().item()
        return scan._replace(doubt=max(scan.doubt, SAFETY * largest_error))

    def _unit(self, rows: torch.Tensor) -> torch.Tensor:
        return normalize(rows, dim=1) if self.space == COSINE else rows

    def _exact(self, rows: torch.Tensor) -> torch.Tensor:
        return self._unit(rows.double())

    def _exact_blocks(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Rows in float64 and their place in `squares`, block by block."""
        step = self._exact_rows()
        for start in range(0, len(self.rows), step):
            yield self._exact(self.rows[start : start + step]), self.squares[start : start + step]

    def _exact_rows(self) -> int:
        return max(1, self.exact_numbers // self.rows.shape[1])


def ranks(
    gallery: Gallery,
    queries: torch.Tensor,
    scan: Scan,
    positions: torch.Tensor,
    is_real: torch.Tensor,
    depth: int,
) -> torch.Tensor:
    """[Q, P] long, ascending: the ranks of P candidates of each query among all its neighbours.

    Args:
        queries: [Q, D], those of the scan. positions: [Q, P] long, in the rows of the scan.
            is_real: [Q, P], which of them count.
    Returns:
        Ranks from 1 up to `depth`, then FAR for candidates that are farther or do not count.
    """
    nearest_values = smallest(scan.values, min(depth, scan.values.shape[1]))  # [Q, K]
    values = scan.values.gather(1, positions)
    closer_counts = torch.searchsorted(nearest_values, values)
    is_real = is_real & values.isfinite()
    is_unsure = _in_doubt(scan, nearest_values, values, closer_counts)
    step = max(1, gallery.exact_numbers // scan.values.shape[1])
    unsure = (places.split(step) for places in true_places(is_unsure & is_real))
    for rows, places in zip(*unsure):
        closer_counts[rows, places] = _counts_closer(
            gallery, queries, scan, nearest_values, rows, positions[rows, places]
        )
    is_found = is_real & (closer_counts < depth)
    return torch.where(is_found, closer_counts + 1, FAR).sort(dim=1).values


def _in_doubt(
    scan: Scan, nearest_values: torch.Tensor, values: torch.Tensor, closer_counts: torch.Tensor
) -> torch.Tensor:
    """[Q, P] bool: which candidates are too near another, or the cut, to be placed by float32.

    Args:
        nearest_values: [Q, K], the smallest of the scan, ascending. values: [Q, P], of the
            candidates. closer_counts: [Q, P], their places among the smallest.
    """
    last = nearest_values.shape[1] - 1
    below = nearest_values.gather(1, (closer_counts - 1).clamp(min=0))
    gaps_below = torch.where(closer_counts > 0, values - below, torch.inf)
    above = nearest_values.gather(1, (closer_counts + 1).clamp(max=last))
    gaps_above = torch.where(closer_counts < last, above - values, torch.inf)
    is_near_another = torch.minimum(gaps_below, gaps_above) <= scan.doubt
    is_cut = last + 1 < scan.values.shape[1]  # values just behind the cut may belong before it
    is_near_cut = (values - nearest_values[:, -1:]).abs() <= scan.doubt
    return is_near_another | (is_cut & is_near_cut)


def nearest(
    gallery: Gallery, queries: torch.Tensor, self_rows: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distances [Q, k] float64, ascending, and gallery rows [Q, k] of the nearest.

    They are fewer where the gallery has fewer; `refinement.nearest_of_all` is for queries of which
    some stand in the gallery and some do not, and so have not the same number of others.
    """
    scan = gallery.scan(queries, self_rows)
    k = min(k, len(gallery.rows) - int((self_rows >= 0).any()))
    ends = smallest(scan.values, k)[:, -1:]
    rows, positions = true_places(scan.values <= ends + scan.doubt)
    columns = scan.columns_at(rows, positions)
    squared = gallery.distances(queries, rows, columns)
    # Sorted by query, then distance, then row: equal distances stay in the order of the gallery.
    order = columns.argsort()
    order = order[squared[order].argsort(stable=True)]
    order = order[rows[order].argsort(stable=True)]
    counts = rows.bincount(minlength=len(queries))
    starts = counts.cumsum(0) - counts
    first = order[starts[:, None] + torch.arange(k, device=rows.device)]
    return squared[first], columns[first]


def first(gallery: Gallery, queries: torch.Tensor, scan: Scan) -> torch.Tensor:
    """[Q] long: the gallery row of the nearest neighbour of each query of a scan.

    -1 for a query that has none, alone in its gallery. Among more than CROWD that the rounding does
    not tell apart, the first row counts as the nearest, as in `ranks`.
    """
    step = max(1, gallery.exact_numbers // scan.values.shape[1])
    parts = [
        _block_first(gallery, queries, scan, slice(start, start + step))
        for start in range(0, len(queries), step)
    ]
    return torch.cat(parts)


def smallest(values: torch.Tensor, count: int) -> torch.Tensor:
    """[Q, count]: the smallest of each row of [Q, L], ascending.

    On the CPU by numpy, whose partition and sort are vectorised.
    """
    if values.device.type != "cpu":
        return values.topk(count, dim=1, largest=False).values
    source, result = values.numpy(), np.empty((len(values), count), dtype=np.float32)

    def fill(start: int) -> None:
        rows = slice(start, start + ROWS_AT_ONCE)
        block = source[rows]
        if count < block.shape[1]:
            block = np.partition(block, count - 1, axis=1)[:, :count]
        result[rows] = block
        result[rows].sort(axis=1)

    starts, threads = range(0, len(values), ROWS_AT_ONCE), torch.get_num_threads()
    if threads == 1:  # handing over to another one takes a tenth of the time
        for start in starts:
            fill(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, starts))
    return torch.from_numpy(result)


def true_places(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns, twice [M] long, at which a mask [R, C] is true, in its order.

    On the CPU by numpy, which passes over what is false ten times as fast.
    """
    if mask.device.type != "cpu":
        rows, columns = mask.nonzero(as_tuple=True)
        return rows, columns
    places = torch.from_numpy(np.flatnonzero(mask.numpy()))
    width = mask.shape[1]
    return places // width, places % width


def _counts_closer(
    gallery: Gallery,
    queries: torch.Tensor,
    scan: Scan,
    nearest_values: torch.Tensor,
    rows: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    """[M] long: for each candidate of a scan how many others are closer, if less than K are.

    Where the scan leaves doubt, they are compared by float64 distance and then by row. Candidates
    are few enough that each may be compared with its whole scan.

    Args:
        nearest_values: [Q, K], the smallest of the scan, ascending. rows: [M] long, the query of
            each candidate. positions: [M] long, its place in the scan.
    """
    own_values = scan.values[rows, positions][:, None]
    surely_closer = torch.full_like(own_values, -scan.doubt)
    counts = torch.searchsorted(nearest_values[rows] - own_values, surely_closer).squeeze(1)
    gaps = scan.values.index_select(0, rows).sub_(own_values)  # [M, L]
    in_doubt = gaps.abs_() <= scan.doubt
    crowded = (in_doubt.sum(1) > CROWD).nonzero().squeeze(1)
    if len(crowded):
        before = _are_before(scan, rows[crowded], positions[crowded])
        counts[crowded] += (in_doubt[crowded] & before).sum(1)
        in_doubt[crowded] = False
    # Pairs of a candidate and one that may be closer, among them each candidate with itself.
    candidates, rivals = true_places(in_doubt)
    columns = scan.columns_at(rows[candidates], rivals)
    squared = _distances_once(gallery, queries, rows[candidates], columns)
    with_itself = (rivals == positions[candidates]).nonzero().squeeze(1)
    pair_with_itself = torch.zeros_like(rows).index_copy_(0, candidates[with_itself], with_itself)
    candidate_pair = pair_with_itself[candidates]
    is_closer = squared < squared[candidate_pair]
    is_tied = squared == squared[candidate_pair]
    is_closer |= is_tied & (columns < columns[candidate_pair])
    return counts + candidates[is_closer].bincount(minlength=len(rows))


def _distances_once(
    gallery: Gallery, queries: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """`Gallery.distances` of pairs among which the same may be many times.

    Candidates of a query have the same rivals where many embeddings are equal.
    """
    size = len(gallery.rows)
    pairs, places = torch.unique(rows * size + columns, return_inverse=True)
    return gallery.distances(queries, pairs // size, pairs % size)[places]


def _block_first(gallery: Gallery, queries: torch.Tensor, scan: Scan, block: slice) -> torch.Tensor:
    """`first` of queries few enough that each may be compared with its whole scan."""
    values = scan.values[block]
    least = values.amin(dim=1, keepdim=True)
    is_near = (values <= least + scan.doubt) & values.isfinite()
    rows, positions = true_places(is_near)
    columns = scan.columns_at(rows + block.start, positions)
    counts = is_near.sum(1)
    squared = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    unsure = ((counts > 1) & (counts <= CROWD))[rows]
    squared[unsure] = gallery.distances(queries, rows[unsure] + block.start, columns[unsure])
    # Sorted by query, then distance, then row.
    order = columns.argsort()
    order = order[squared[order].argsort(stable=True)]
    order = order[rows[order].argsort(stable=True)]
    starts = counts.cumsum(0) - counts
    found = torch.full_like(counts, -1)
    has_any = counts > 0
    found[has_any] = columns[order[starts[has_any]]]
    return found


def _are_before(scan: Scan, rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """[M, L] bool: what of the whole scan has a lower gallery row than each candidate [M]."""
    if scan.columns is None:
        columns = torch.arange(scan.values.shape[1], device=rows.device).expand(len(rows), -1)
    else:
        columns = scan.columns[rows]
    return columns < columns.gather(1, positions[:, None])
