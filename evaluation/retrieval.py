"""Metrics of a search: embeddings and a protocol -> the value of each query."""

import typing
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch

from evaluation.neighbours import EXACT_BYTES, FAR, Gallery, Scan, first, ranks
from evaluation.refinement import EXPANSIONS, Reranking, asked_again, least_depth
from metrics import (
    ALL,
    COSINE,
    EUCLIDEAN,
    RERANKED,
    UP_TO_RELEVANT,
    FirstNeighbours,
    Metric,
    Retrieval,
)
from utilities import processes
from utilities.errors import UserError
from utilities.functional import positive_columns

# (queries [Q, D], their own rows [Q], their labels [Q] for each relation) -> what they find
Retriever = Callable[[torch.Tensor, torch.Tensor, list[torch.Tensor]], "Found"]
LISTED_BYTES = 200  # of memory for each neighbour that is listed and sorted anew
QUERIES_AT_MOST = 512  # in a block: their distances are still in a cache when they are sorted


class LabelledSplit(typing.Protocol):
    """What a protocol is made of."""

    labels: np.ndarray  # [N] int64
    superclasses: np.ndarray | None  # [C] int64, of each class
    is_query: np.ndarray | None  # bool [N]
    is_gallery: np.ndarray | None  # bool [N]


class Protocol(NamedTuple):
    """Who searches where.

    Attributes:
        labels: [N] long. superclasses: [N] long, or None if the split has none.
        queries, gallery: [Q] and [G] long, rows of the split; they may share some. None: all rows
            search among all others.
    """

    labels: torch.Tensor
    superclasses: torch.Tensor | None = None
    queries: torch.Tensor | None = None
    gallery: torch.Tensor | None = None

    @classmethod
    def of(cls, split: LabelledSplit, metrics: list[Metric]) -> "Protocol":
        """That of a dataset's split.

        Raises:
            UserError: a metric asks for super-classes that the dataset does not have.
        """
        labels, superclasses = torch.from_numpy(split.labels), None
        if split.superclasses is not None:
            superclasses = torch.from_numpy(split.superclasses)[labels]
        elif names := [metric.name for metric in metrics if metric.superclass]:
            raise UserError(
                f"--evaluation_metrics {' '.join(names)}: this dataset has no super-classes."
            )
        return cls(labels, superclasses, _chosen(split.is_query), _chosen(split.is_gallery))

    def superclasses_of_classes(self) -> torch.Tensor | None:
        """[C] long: the super-class of each class that has images, None without any."""
        if self.superclasses is None:
            return None
        of_classes = self.labels.new_zeros(int(self.labels.max()) + 1)
        return of_classes.index_copy_(0, self.labels, self.superclasses)

    def to(self, device: torch.device) -> "Protocol":
        """The same on another device."""
        others = (None if rows is None else rows.to(device) for rows in self[1:])
        return Protocol(self.labels.to(device), *others)


class Found(NamedTuple):
    """
    Attributes:
        retrievals: of each relation. first: gives [Q] long, the gallery row of each query's nearest
            neighbour, -1 where it has none.
    """

    retrievals: Iterable[Retrieval]
    first: Callable[[], torch.Tensor]


class Searched(NamedTuple):
    """
    Attributes:
        values: metric name -> [Q] float64, NaN for a query that the metric skips.
        firsts: space -> the classes of queries and of what they find first.
    """

    values: dict[str, torch.Tensor]
    firsts: dict[str, FirstNeighbours]


class Relation:
    """Relevant to a query are the rows of the gallery that share its label.

    Args:
        labels: [N] long, of the split. gallery: [G] long, rows of the split; None: all.
        metrics: those that ask for this relation.
    """

    def __init__(self, labels: torch.Tensor, gallery: torch.Tensor | None, metrics: list[Metric]):
        self.labels, self.metrics = labels, metrics
        self.gallery_labels = labels if gallery is None else labels[gallery]
        self.members = self.gallery_labels.argsort(stable=True)
        self.sizes = self.gallery_labels.bincount(minlength=int(labels.max()) + 1)
        self.starts = self.sizes.cumsum(0) - self.sizes
        self.largest = int(self.sizes.max())
        self.depth = max(self._depth(metric) for metric in metrics)

    def retrieval(
        self,
        gallery: Gallery,
        query_rows: torch.Tensor,
        scan: Scan,
        query_labels: torch.Tensor,
        self_rows: torch.Tensor,
    ) -> Retrieval:
        """What the queries [Q, D] of a scan, with `query_labels` [Q], find."""
        positions, is_real = self.candidates(scan, query_labels, self_rows)
        found_ranks = ranks(gallery, query_rows, scan, positions, is_real, self.depth)
        is_found = found_ranks < FAR
        return Retrieval(
            is_found.nonzero()[:, 0], found_ranks[is_found], self.counts(query_labels, self_rows)
        )

    def listed(
        self, places: torch.Tensor, query_labels: torch.Tensor, self_rows: torch.Tensor
    ) -> Retrieval:
        """What queries find whose nearest are at `places` [Q, K], -1 where there are fewer."""
        is_relevant = self.gallery_labels[places.clamp(min=0)] == query_labels[:, None]
        queries, columns = (is_relevant & (places >= 0)).nonzero(as_tuple=True)
        return Retrieval(queries, columns + 1, self.counts(query_labels, self_rows))

    def counts(self, query_labels: torch.Tensor, self_rows: torch.Tensor) -> torch.Tensor:
        """[Q] long: the relevant rows of each query, itself not counted."""
        return self.sizes[query_labels] - (self_rows >= 0).long()

    def candidates(
        self, scan: Scan, query_labels: torch.Tensor, self_rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [Q, P] of the relevant rows in a scan, and which of them are real, [Q, P]."""
        if scan.columns is not None:
            is_relevant = self.gallery_labels[scan.columns] == query_labels[:, None]
            return positive_columns(is_relevant & (scan.columns != self_rows[:, None]))
        sizes, starts = self.sizes[query_labels][:, None], self.starts[query_labels][:, None]
        within = torch.arange(max(1, int(sizes.max())), device=query_labels.device)
        columns = self.members[(starts + within).clamp(max=len(self.members) - 1)]
        return columns, (within < sizes) & (columns != self_rows[:, None])

    def _depth(self, metric: Metric) -> int:
        """The largest rank that a metric looks at."""
        rows = len(self.gallery_labels)
        depth = {UP_TO_RELEVANT: self.largest, ALL: rows}.get(metric.depth, metric.depth)
        return max(1, min(int(depth), rows))


def per_query(
    embeddings: torch.Tensor,
    protocol: Protocol,
    metrics: list[Metric],
    *,
    memory: int,
    use_faiss: bool = False,
) -> dict[str, torch.Tensor]:
    """Metric name -> [Q] float64, NaN for a query that the metric skips.

    Args:
        metrics: metrics of a search. Others as of `search`.
    """
    return search(embeddings, protocol, metrics, memory=memory, use_faiss=use_faiss).values


def search(
    embeddings: torch.Tensor,
    protocol: Protocol,
    metrics: list[Metric],
    *,
    memory: int,
    use_faiss: bool = False,
) -> Searched:
    """What metrics of a search, and those that read first neighbours, are made of.

    Each space is searched once, block by block; processes of a run divide the queries.

    Args:
        embeddings: [N, D] float32.
        memory: bytes that may be used beside the embeddings, as far as one query at a time allows.
    """
    asking = [metric for metric in metrics if metric.depth or metric.first]
    searched = Searched({}, {})
    for space in dict.fromkeys(metric.space for metric in asking):
        of_space = [metric for metric in asking if metric.space == space]
        values, found = _search(embeddings, protocol, space, of_space, memory, use_faiss)
        searched.values.update(values)
        if found is not None:
            searched.firsts[space] = _classes_of(found, protocol)
    return searched


def _search(
    embeddings: torch.Tensor,
    protocol: Protocol,
    space: str,
    metrics: list[Metric],
    memory: int,
    use_faiss: bool,
) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
    """The values of one space, and the gallery rows [Q] found first if a metric reads them.

    Each process of a run asks its share of the queries.
    """
    gallery_rows, queries, self_rows = places(embeddings, protocol)
    of_ranks = [metric for metric in metrics if metric.depth]
    relations = _relations(protocol, of_ranks)
    depth = max(least_depth(space), *(relation.depth for relation in relations), 1)
    total, mine = len(queries), processes.part().rows(len(queries))
    queries, self_rows = queries[mine], self_rows[mine]
    plain = EUCLIDEAN if space == EUCLIDEAN else COSINE
    gallery = Gallery(gallery_rows, plain, depth=depth, use_faiss=use_faiss, memory=memory)
    step = queries_at_once(gallery, relations, memory, is_listed=space == RERANKED)
    values = {
        metric.name: torch.empty(len(queries), dtype=torch.float64, device=embeddings.device)
        for metric in of_ranks
    }
    firsts = torch.empty_like(queries) if any(metric.first for metric in metrics) else None
    retrieve = _retriever(space, gallery, relations, step)
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        labels = [relation.labels[queries[block]] for relation in relations]
        found = retrieve(embeddings[queries[block]], self_rows[block], labels)
        for relation, retrieval in zip(relations, found.retrievals):
            for metric in relation.metrics:
                values[metric.name][block] = metric.compute(retrieval)
        if firsts is not None:
            firsts[block] = found.first()
    values = {name: processes.gathered(of_part, total) for name, of_part in values.items()}
    return values, None if firsts is None else processes.gathered(firsts, total)


def _classes_of(found: torch.Tensor, protocol: Protocol) -> FirstNeighbours:
    """Of the gallery rows [Q] that the queries of a protocol find first, -1 for none."""
    labels = protocol.labels
    asked = labels if protocol.queries is None else labels[protocol.queries]
    of_gallery = labels if protocol.gallery is None else labels[protocol.gallery]
    sizes = of_gallery.bincount(minlength=int(labels.max()) + 1)
    has_any = found >= 0
    return FirstNeighbours(asked[has_any], of_gallery[found[has_any]], sizes)


def _retriever(space: str, gallery: Gallery, relations: list[Relation], at_once: int) -> Retriever:
    """How a space is searched."""
    if space == RERANKED:
        reranking, depth = Reranking(gallery, at_once), max(each.depth for each in relations)

        def rerank(
            rows: torch.Tensor, self_rows: torch.Tensor, labels: list[torch.Tensor]
        ) -> Found:
            places = reranking.places(rows, self_rows, depth)
            retrievals = (
                relation.listed(places, query_labels, self_rows)
                for relation, query_labels in zip(relations, labels)
            )
            return Found(retrievals, lambda: places[:, 0])

        return rerank

    def scan(rows: torch.Tensor, self_rows: torch.Tensor, labels: list[torch.Tensor]) -> Found:
        if space in EXPANSIONS:
            rows = asked_again(gallery, rows, self_rows, EXPANSIONS[space])
        scanned = gallery.scan(rows, self_rows)
        retrievals = (
            relation.retrieval(gallery, rows, scanned, query_labels, self_rows)
            for relation, query_labels in zip(relations, labels)
        )
        return Found(retrievals, lambda: first(gallery, rows, scanned))

    return scan


def places(
    embeddings: torch.Tensor, protocol: Protocol
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gallery [G, D], the queries [Q] as rows of the split, and as rows of the gallery [Q].

    The last is -1 for a query that is not in the gallery.
    """
    everyone = torch.arange(len(embeddings), device=embeddings.device)
    queries = everyone if protocol.queries is None else protocol.queries
    if protocol.gallery is None:
        return embeddings, queries, queries
    gallery_places = torch.arange(len(protocol.gallery), device=embeddings.device)
    self_rows = torch.full_like(everyone, -1).index_put_((protocol.gallery,), gallery_places)
    return embeddings[protocol.gallery], queries, self_rows[queries]


def _relations(protocol: Protocol, metrics: list[Metric]) -> list[Relation]:
    """Classes, super-classes or both, as metrics ask."""
    relations = []
    for superclass in dict.fromkeys(metric.superclass for metric in metrics):
        labels = protocol.superclasses if superclass else protocol.labels
        if labels is None:
            raise ValueError("a metric of super-classes, and a protocol without them")
        asking = [metric for metric in metrics if metric.superclass == superclass]
        relations.append(Relation(labels, protocol.gallery, asking))
    return relations


def queries_at_once(
    gallery: Gallery, relations: Iterable[Relation], memory: int, *, is_listed: bool
) -> int:
    """As many queries as fit.

    A query takes a row of distances, the nearest of it in float32 and float64, and the pairs of its
    relevant rows; where the nearest are listed and sorted anew, more for each of these.
    """
    pairs = max((relation.largest for relation in relations), default=0)
    fixed = 24 * len(gallery.rows) + EXACT_BYTES * gallery.exact_numbers
    of_nearest = LISTED_BYTES if is_listed else 24
    of_query = 4 * len(gallery.rows) + of_nearest * gallery.depth + 64 * pairs
    return max(1, min(QUERIES_AT_MOST, (memory - fixed) // of_query))


def _chosen(mask: np.ndarray | None) -> torch.Tensor | None:
    """Rows of a mask [N], or None for None."""
    return None if mask is None else torch.from_numpy(mask).nonzero().squeeze(1)
