"""What metrics read."""
from dataclasses import dataclass, field

import torch

EUCLIDEAN, COSINE = "euclidean", "cosine"


@dataclass(frozen=True)
class Retrieval:
    """A split searched with itself; the query is never among its own neighbours.

    Attributes:
        labels: [N] long.
        embeddings: [N, D] float32.
        neighbour_labels: space -> [N, K], the labels of each query's K nearest, nearest first.
        clusters: [N] long k-means assignments, or None if no metric asked for them.
    """
    labels: torch.Tensor
    embeddings: torch.Tensor
    neighbour_labels: dict[str, torch.Tensor] = field(default_factory=dict)
    clusters: torch.Tensor | None = None

    def hits(self, space: str, k: int, start: int, stop: int) -> torch.Tensor:
        """[stop - start, min(k, K)] bool: which neighbours of these queries share their class."""
        return self.neighbour_labels[space][start:stop, :k] == self.labels[start:stop, None]
