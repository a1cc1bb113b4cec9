"""What metrics read."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch.nn.functional import normalize

EUCLIDEAN, COSINE = "euclidean", "cosine"
# By cosine, and with the help of what is found first: query expansion and re-ranking.
AQE, ALPHA_QE, RERANKED = "aqe", "alphaqe", "rerank"
ROWS_AT_ONCE = 8192  # in float64: a copy of all rows would double the memory of an evaluation


@dataclass(frozen=True)
class Retrieval:
    """Where the relevant images stand among the neighbours of Q queries.

    A query is never its own neighbour. Most neighbours are irrelevant, so the ranks of the relevant
    ones say all that recall and precision need, in less room than the neighbours. Relevant are the
    other images of the query's class (or super-class, as the metric asked).

    Attributes:
        queries: [M] long, ascending: the query 0..Q-1 that each relevant image belongs to.
        ranks: [M] long, ascending within a query, 1 for the nearest; only ranks up to the largest
            that any metric asked for.
        relevant: [Q] long, all relevant images of each query in the gallery, found or not.
    """

    queries: torch.Tensor
    ranks: torch.Tensor
    relevant: torch.Tensor

    @cached_property
    def precisions(self) -> torch.Tensor:
        """[M] float64: the share of relevant images up to and with each one."""
        found_counts = self.queries.bincount(minlength=len(self.relevant))
        found_before = (found_counts.cumsum(0) - found_counts)[self.queries]
        places = torch.arange(1, len(self.ranks) + 1, device=self.ranks.device)
        return places.sub(found_before).double() / self.ranks

    def count_within(self, limits: torch.Tensor | int) -> torch.Tensor:
        """[Q] float64: the relevant images of each query with a rank of at most `limits`.

        Args:
            limits: one rank for all, or [M] one for each relevant image.
        """
        return self._sum((self.ranks <= limits).double())

    def precision_within(self, limits: torch.Tensor | int) -> torch.Tensor:
        """[Q] float64: the sum of the precisions at the relevant images of such ranks."""
        return self._sum(self.precisions * (self.ranks <= limits))

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        sums = torch.zeros_like(self.relevant, dtype=torch.float64)
        return sums.index_add_(0, self.queries, values)


@dataclass(frozen=True)
class FirstNeighbours:
    """The classes of queries and of what each finds first, of queries that find anything.

    Attributes:
        asked: [Q] long, the class of each query. found: [Q] long, that of its nearest neighbour.
        gallery_sizes: [C] long, how many images of each class the gallery has.
    """

    asked: torch.Tensor
    found: torch.Tensor
    gallery_sizes: torch.Tensor

    def mistakes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The classes of the queries, and of what they find, where the two differ: twice [W]."""
        is_wrong = self.asked != self.found
        return self.asked[is_wrong], self.found[is_wrong]


@dataclass(frozen=True)
class EmbeddedSplit:
    """A whole split, for metrics of its geometry, its clusters and its mistakes.

    Attributes:
        labels: [N] long. embeddings: [N, D] float32.
        clusters: space -> [N] long k-means assignments, of the spaces that metrics asked for.
        text_vectors: [C, E] unit vectors of the texts of the classes 0..C-1, or None if no metric
            asked for them.
        first_neighbours: space -> what queries find first, of the spaces that metrics asked for.
        superclasses: [C] long, the super-class of each class, or None if the split has none.
    """

    labels: torch.Tensor
    embeddings: torch.Tensor
    clusters: dict[str, torch.Tensor] = field(default_factory=dict)
    text_vectors: torch.Tensor | None = None
    first_neighbours: dict[str, FirstNeighbours] = field(default_factory=dict)
    superclasses: torch.Tensor | None = None

    @cached_property
    def present(self) -> torch.Tensor:
        """[P] long: the classes that have images, ascending."""
        return self.labels.unique()

    @cached_property
    def class_sizes(self) -> torch.Tensor:
        """[P] float64: how many images each present class has."""
        return self.labels.bincount()[self.present].double()

    @cached_property
    def centroids(self) -> torch.Tensor:
        """[P, D] float64: the mean embedding of each present class."""
        return self.class_sums() / self.class_sizes[:, None]

    def class_sums(self, unit: bool = False) -> torch.Tensor:
        """[P, D] float64: the sum of each present class's embeddings, or of their unit vectors."""
        shape = len(self.present), self.embeddings.shape[1]
        sums = torch.zeros(shape, dtype=torch.float64, device=self.embeddings.device)
        blocks = self.embeddings.split(ROWS_AT_ONCE)
        for block, labels in zip(blocks, self.labels.split(ROWS_AT_ONCE)):
            vectors = normalize(block.double(), dim=1) if unit else block.double()
            sums.index_add_(0, torch.searchsorted(self.present, labels), vectors)
        return sums
