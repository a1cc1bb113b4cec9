"""Exact nearest neighbours in a gallery, in bounded memory.

Neighbours are ordered by their Euclidean distance in float64 (of unit vectors in the cosine space),
equal distances by the
row in the gallery: whatever searches, in blocks of whatever size, the answer is the same. A search
    in float32
is fast but cannot tell distances that differ by less than its rounding. So each `Scan` in float32
measures its own rounding, and the few pairs that it leaves in doubt are computed again in float64.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from evaluation import faiss_library
from metrics import COSINE

SPARE = 64  # candidates beyond those asked, of a library that lists only the nearest
SAMPLED = 1024  # pairs at least from which the rounding of a scan is measured
SAFETY = 8  # distances that differ by less than this many times the largest rounding measured are in doubt,
LEAST = (
    4 * torch.finfo(torch.float32).eps
)  # or by less than this share of the terms that they are the sum of
FAR_FROM_ORIGIN = (
    100  # times the largest square of a distance to the mean is less than the largest of a length
)
CROWD = 4096  # so many candidates within the rounding of one distance count as equal: a collapsed space has no order
EXACT_BYTES = 72  # of memory for each number that is computed again in float64
EXACT_NUMBERS = 2**14, 2**21  # at once: at least and at most
FAR = torch.iinfo(torch.long).max  # the rank of what is farther than was looked
ROWS_AT_ONCE = 32  # rows of distances that one thread takes at a time


class Scan(NamedTuple):
    """Distances of Q queries to L candidates each, in float32, until the gallery makes its next scan.

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


class Gallery:
    """Rows [G, D] float32 to search in. `own` of a query is its own row, which it does not find, or -1.

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
        self.scales, self.longest = (
            (1 / lengths.clamp(min=1e-12), 1.0) if space == COSINE else (None, lengths.max())
        )
        # Distances are taken from the mean: the product keeps small ones only near the origin.
        self.squares = rows.new_empty(
            len(rows)
        )  # of distances to the mean; filled in place: small results kept between large ones scatter the memory
        self.mean = rows.new_zeros(rows.shape[1], dtype=torch.float64)
        for part, _ in self._exact_blocks():
            self.mean += part.sum(0) / len(rows)
        for part, squares in self._exact_blocks():
            squares.copy_((part - self.mean).square().sum(1))
        # A crowd far from the origin: what is left of the product of its rows there is rounding.
        self.is_far = bool(FAR_FROM_ORIGIN * self.squares.max() < self.longest**2)
        self.buffer = rows.new_empty(
            0, len(rows)
        )  # one block of distances, used again: fresh memory is slow
        self.ask_faiss = (
            faiss_library.flat_index(self._unit(rows), self.depth + SPARE) if use_faiss else None
        )

    def scan(self, queries: torch.Tensor, own: torch.Tensor) -> Scan:
        """Distances of queries [Q, D] to all rows, or to at least the nearest `depth`."""
        if self.ask_faiss is None:
            return self._measured(self._scan_all(queries, own), queries)
        scan = self._measured(self._scan_listed(queries, own), queries)
        ends = scan.values[:, [self.depth - 1, -1]].double()
        is_complete = (
            scan.values.shape[1] == len(self.rows)
            or (ends[:, 1] > ends[:, 0] + 2 * scan.doubt).all()
        )
        return (
            scan if is_complete else self._measured(self._scan_all(queries, own), queries)
        )  # too many ties for a list

    def distances(
        self, queries: torch.Tensor, asking: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """[M] float64 squared distances of the queries [Q, D] at `asking` [M] to the rows at `columns` [M]."""
        step = self._exact_rows()
        found = torch.empty(len(columns), dtype=torch.float64, device=columns.device)
        for start in range(0, len(columns), step):
            part = slice(start, start + step)
            found[part] = (
                (self._exact(queries[asking[part]]) - self._exact(self.rows[columns[part]]))
                .square()
                .sum(1)
            )
        return found

    def _scan_all(self, queries: torch.Tensor, own: torch.Tensor) -> Scan:
        """|x - m|^2 - 2 (q - m).x of all rows x with mean m, which is the squared distance less |q|^2 - |m|^2; with x - m for x, less |q - m|^2."""
        exact = self._exact(queries)
        centred = (exact - self.mean).float()
        if len(self.buffer) < len(queries):
            self.buffer = self.rows.new_empty(len(queries), len(self.rows))
        values = self.buffer[: len(queries)]
        if self.is_far:
            for rows, block in zip(
                self.rows.split(self._exact_rows()), values.split(self._exact_rows(), dim=1)
            ):
                torch.mm(centred, (self._exact(rows) - self.mean).float().T, out=block)
            values.mul_(-2).add_(self.squares)
        elif self.scales is None:
            torch.addmm(self.squares, centred, self.rows.T, alpha=-2, out=values)
        else:
            torch.mm(centred, self.rows.T, out=values).mul_(self.scales * -2).add_(self.squares)
        terms = self.squares.max() + 2 * centred.norm(dim=1).max() * (
            self.squares.max().sqrt() if self.is_far else self.longest
        )
        among = (own >= 0).nonzero().squeeze(1)
        values[among, own[among]] = torch.inf
        offsets = (
            (exact - self.mean).square().sum(1)
            if self.is_far
            else exact.square().sum(1) - self.mean.square().sum()
        )
        return Scan(values, None, offsets, LEAST * terms.item())

    def _scan_listed(self, queries: torch.Tensor, own: torch.Tensor) -> Scan:
        values, columns = self.ask_faiss(
            self._unit(queries), min(self.depth + SPARE, len(self.rows))
        )
        terms = (self._unit(queries).norm(dim=1).max() + self.longest) ** 2
        values, order = values.masked_fill_(columns == own[:, None], torch.inf).sort(dim=1)
        return Scan(
            values,
            columns.gather(1, order),
            torch.zeros(len(queries), dtype=torch.float64, device=queries.device),
            LEAST * terms.item(),
        )

    def _measured(self, scan: Scan, queries: torch.Tensor) -> Scan:
        """The scan with its doubt: the rounding of a sample of its values, with a margin."""
        each = -(-SAMPLED // len(queries))
        positions = torch.linspace(0, scan.values.shape[1] - 1, each, device=queries.device).long()
        columns = (
            positions.expand(len(queries), -1)
            if scan.columns is None
            else scan.columns[:, positions]
        )
        everyone = torch.arange(len(queries), device=queries.device)
        exact = self.distances(
            queries, everyone.repeat_interleave(each), columns.flatten()
        ).view_as(columns)
        errors = (scan.values[:, positions] + scan.offsets[:, None] - exact).abs()
        return scan._replace(doubt=max(scan.doubt, SAFETY * errors.nan_to_num(0, 0).max().item()))

    def _unit(self, rows: torch.Tensor) -> torch.Tensor:
        return normalize(rows, dim=1) if self.space == COSINE else rows

    def _exact(self, rows: torch.Tensor) -> torch.Tensor:
        return self._unit(rows.double())

    def _exact_blocks(self):
        """Rows in float64 and their place in `squares`, block by block."""
        step = self._exact_rows()
        return (
            (self._exact(self.rows[start : start + step]), self.squares[start : start + step])
            for start in range(0, len(self.rows), step)
        )

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
    """[Q, P] long, ascending: the ranks, counted from 1, of P candidates of each query among all its neighbours.

    Args:
        queries: [Q, D], those of the scan. positions: [Q, P] long, in the rows of the scan.
            is_real: [Q, P], which of them count.
    Returns:
        Ranks up to `depth`, then FAR for candidates that are farther or do not count.
    """
    nearest = smallest(scan.values, min(depth, scan.values.shape[1]))  # [Q, K]
    values = scan.values.gather(1, positions)
    before = torch.searchsorted(nearest, values)
    ends, last = nearest[:, -1:], nearest.shape[1] - 1
    gaps_below = torch.where(
        before > 0, values - nearest.gather(1, (before - 1).clamp(min=0)), torch.inf
    )
    gaps_above = torch.where(
        before < last, nearest.gather(1, (before + 1).clamp(max=last)) - values, torch.inf
    )
    is_cut = last + 1 < scan.values.shape[1]  # values just behind the cut may belong before it
    unsure = (torch.minimum(gaps_below, gaps_above) <= scan.doubt) | (
        is_cut & ((values - ends).abs() <= scan.doubt)
    )
    is_real = is_real & values.isfinite()
    rows, places = (unsure & is_real).nonzero(as_tuple=True)
    before[rows, places] = _counts_closer(gallery, queries, scan, rows, positions[rows, places])
    return torch.where(is_real & (before < depth), before + 1, FAR).sort(dim=1).values


def nearest(
    gallery: Gallery, queries: torch.Tensor, own: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distances [Q, k] float64, ascending, and gallery rows [Q, k] of the nearest neighbours; fewer where there are fewer."""
    scan = gallery.scan(queries, own)
    k = min(k, len(gallery.rows) - int((own >= 0).any()))
    ends = smallest(scan.values, k)[:, -1:]
    rows, positions = (scan.values <= ends + scan.doubt).nonzero(as_tuple=True)
    columns = positions if scan.columns is None else scan.columns[rows, positions]
    exact = gallery.distances(queries, rows, columns)
    order = columns.argsort()
    order = order[
        exact[order].argsort(stable=True)
    ]  # equal distances stay in the order of the gallery
    order = order[rows[order].argsort(stable=True)]
    counts = rows.bincount(minlength=len(queries))
    first = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=rows.device)]
    return exact[first], columns[first]


def smallest(values: torch.Tensor, count: int) -> torch.Tensor:
    """[Q, count]: the smallest of each row of [Q, L], ascending. On the CPU by numpy, whose partition and sort are vectorised."""
    if values.device.type != "cpu":
        return values.topk(count, dim=1, largest=False).values
    source, found = values.numpy(), np.empty((len(values), count), dtype=np.float32)

    def fill(start: int) -> None:
        block = source[start : start + ROWS_AT_ONCE]
        block = (
            np.partition(block, count - 1, axis=1)[:, :count] if count < block.shape[1] else block
        )
        found[start : start + ROWS_AT_ONCE] = np.sort(block, axis=1)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(fill, range(0, len(values), ROWS_AT_ONCE)))
    return torch.from_numpy(found)


def _counts_closer(
    gallery: Gallery, queries: torch.Tensor, scan: Scan, rows: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """For each candidate [M] of a scan: how many others are closer, where the scan leaves doubt by float64 distance and then by row."""
    counts = torch.zeros_like(rows)
    step = max(1, gallery.exact_numbers // scan.values.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        row, position = rows[part], positions[part]
        above = scan.values[row] - scan.values[row, position][:, None]
        counts[part] = (above < -scan.doubt).sum(1)
        in_doubt = above.abs_() <= scan.doubt
        crowded = (in_doubt.sum(1) > CROWD).nonzero().squeeze(1)
        if len(crowded):
            columns = (
                torch.arange(above.shape[1], device=rows.device).expand(len(row), -1)
                if scan.columns is None
                else scan.columns[row]
            )
            is_before = columns[crowded] < columns[crowded].gather(1, position[crowded][:, None])
            counts[start + crowded] += (in_doubt[crowded] & is_before).sum(1)
            in_doubt[crowded] = False
        one, other = in_doubt.nonzero(as_tuple=True)
        columns = other if scan.columns is None else scan.columns[row[one], other]
        exact = gallery.distances(queries, row[one], columns)
        itself = (other == position[one]).nonzero().squeeze(1)  # of each candidate
        of_candidate = torch.zeros(len(row), dtype=torch.long, device=rows.device).index_copy_(
            0, one[itself], itself
        )[one]
        closer = (exact < exact[of_candidate]) | (
            (exact == exact[of_candidate]) & (columns < columns[of_candidate])
        )
        counts[part] += one[closer].bincount(minlength=len(row))
    return counts
