"""Metrics of a search: embeddings and a protocol -> the value of each query."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from evaluation.neighbours import EXACT_BYTES, FAR, Gallery, Scan, ranks
from metrics import ALL, UP_TO_RELEVANT, Metric, Retrieval
from utilities.errors import UserError
from utilities.functional import positive_columns

QUERIES_AT_MOST = 1024  # in a block: more are not faster


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
    def of(cls, split, metrics: list[Metric]) -> "Protocol":
        """That of a dataset's split. Raises UserError where a metric asks for super-classes that it does not have."""
        labels = torch.from_numpy(split.labels)
        if split.superclasses is None and (
            asking := [metric.name for metric in metrics if metric.superclass]
        ):
            raise UserError(
                f"--evaluation_metrics {' '.join(asking)}: this dataset has no super-classes."
            )
        superclasses = (
            None if split.superclasses is None else torch.from_numpy(split.superclasses)[labels]
        )
        parts = (
            None if part is None else torch.from_numpy(part).nonzero().squeeze(1)
            for part in (split.is_query, split.is_gallery)
        )
        return cls(labels, superclasses, *parts)

    def to(self, device: torch.device) -> "Protocol":
        """The same on another device."""
        return Protocol(*(rows if rows is None else rows.to(device) for rows in self))


class Relation:
    """Relevant to a query are the rows of the gallery that share its label.

    Args:
        labels: [G] long, of the gallery. count: labels lie in 0..count-1.
    """

    def __init__(self, labels: torch.Tensor, count: int):
        self.labels, self.members = labels, labels.argsort(stable=True)
        self.sizes = labels.bincount(minlength=count)
        self.starts = self.sizes.cumsum(0) - self.sizes

    def counts(self, labels: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """[Q] long: the relevant rows for queries of `labels` [Q], themselves not counted."""
        return self.sizes[labels] - (own >= 0).long()

    def candidates(
        self, scan: Scan, labels: torch.Tensor, own: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [Q, P] of the relevant rows in a scan for queries of `labels` [Q], and which of them are real, bool [Q, P]."""
        if scan.columns is not None:
            return positive_columns(
                (self.labels[scan.columns] == labels[:, None]) & (scan.columns != own[:, None])
            )
        sizes = self.sizes[labels][:, None]
        within = torch.arange(max(1, int(sizes.max())), device=labels.device)
        columns = self.members[
            (self.starts[labels][:, None] + within).clamp(max=len(self.members) - 1)
        ]
        return columns, (within < sizes) & (columns != own[:, None])


def per_query(
    embeddings: torch.Tensor,
    protocol: Protocol,
    metrics: list[Metric],
    *,
    memory: int,
    use_faiss: bool = False,
) -> dict[str, torch.Tensor]:
    """Metric name -> [Q] float64, NaN for a query that the metric skips; each space is searched once, block by block.

    Args:
        embeddings: [N, D] float32. metrics: metrics of a search.
        memory: bytes that may be used beside the embeddings, as far as one query at a time allows.
    """
    values: dict[str, torch.Tensor] = {}
    for space in dict.fromkeys(metric.space for metric in metrics):
        values |= _search(
            embeddings,
            protocol,
            space,
            [metric for metric in metrics if metric.space == space],
            memory,
            use_faiss,
        )
    return values


def _search(
    embeddings, protocol: Protocol, space: str, metrics: list[Metric], memory: int, use_faiss: bool
) -> dict[str, torch.Tensor]:
    rows, queries, own = _parts(embeddings, protocol)
    labels = {False: protocol.labels, True: protocol.superclasses}
    needed = dict.fromkeys(metric.superclass for metric in metrics)
    among = {
        kind: labels[kind] if protocol.gallery is None else labels[kind][protocol.gallery]
        for kind in needed
    }
    relations = {kind: Relation(among[kind], int(labels[kind].max()) + 1) for kind in needed}
    depths = {
        kind: max(
            _depth(metric, relations[kind], len(rows))
            for metric in metrics
            if metric.superclass == kind
        )
        for kind in needed
    }
    gallery = Gallery(rows, space, depth=max(depths.values()), use_faiss=use_faiss, memory=memory)
    block = _queries_at_once(gallery, relations.values(), memory)
    values = {
        metric.name: torch.empty(len(queries), dtype=torch.float64, device=rows.device)
        for metric in metrics
    }
    for start in range(0, len(queries), block):
        part, self_row = queries[start : start + block], own[start : start + block]
        scan = gallery.scan(embeddings[part], self_row)
        for kind, relation in relations.items():
            asked = labels[kind][part]
            found_at = ranks(
                gallery,
                embeddings[part],
                scan,
                *relation.candidates(scan, asked, self_row),
                depths[kind],
            )
            retrieval = Retrieval(
                (found_at < FAR).nonzero()[:, 0],
                found_at[found_at < FAR],
                relation.counts(asked, self_row),
            )
            for metric in metrics:
                if metric.superclass == kind:
                    values[metric.name][start : start + block] = metric.compute(retrieval)
    return values


def _parts(
    embeddings: torch.Tensor, protocol: Protocol
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of the gallery, the queries as rows of the split, and where each query stands in the gallery (-1: nowhere)."""
    everyone = torch.arange(len(embeddings), device=embeddings.device)
    queries = everyone if protocol.queries is None else protocol.queries
    if protocol.gallery is None:
        return embeddings, queries, queries
    places = torch.full_like(everyone, -1).index_put_(
        (protocol.gallery,), torch.arange(len(protocol.gallery), device=embeddings.device)
    )
    return embeddings[protocol.gallery], queries, places[queries]


def _depth(metric: Metric, relation: Relation, rows: int) -> int:
    """The largest rank that a metric looks at."""
    wanted = {UP_TO_RELEVANT: int(relation.sizes.max()), ALL: rows}.get(metric.depth, metric.depth)
    return max(1, min(int(wanted), rows))


def _queries_at_once(gallery: Gallery, relations: Iterable[Relation], memory: int) -> int:
    """As many queries as fit: a row of distances, the nearest of it in float32 and float64, and the pairs of relevant rows."""
    pairs = max(int(relation.sizes.max()) for relation in relations)
    fixed, of_query = (
        24 * len(gallery.rows) + EXACT_BYTES * gallery.exact_numbers,
        4 * len(gallery.rows) + 24 * gallery.depth + 64 * pairs,
    )
    return max(1, min(QUERIES_AT_MOST, (memory - fixed) // of_query))
