"""Smooth-AP (Brown et al., ECCV 2020, eqs. 5 and 6)."""

import torch
from torch.nn.functional import normalize

from criteria.base import Criterion
from utilities.functional import graph_zero, pair_masks
from utilities.types import ModelOutput


class SmoothAPLoss(Criterion):
    """One minus average precision, with a sigmoid in the place of each step of the ranking.

    Each sample queries the rest of the batch. With cosine similarities s, over its positives p:
    AP = 1/|P| sum_p (1 + sum of sigmoid((s_j - s_p) / temperature) over the other positives j)
                   / (1 + the same sum over all other samples j); averaged over queries that have a
                   positive.
    The authors' code, and what was made from it, also counts the query as a positive of its own, at
    rank 1.
    """

    def __init__(self, temperature: float = 0.01):
        super().__init__()
        self.temperature = temperature

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        positives, _ = pair_masks(labels)
        queries, matches = positives.nonzero(as_tuple=True)  # every (query, positive), M of them
        if len(queries) == 0:
            return graph_zero(output.embeddings)
        above = ranked_above(output.embeddings, queries, matches, self.temperature)
        precision = (1 + (above * positives[queries]).sum(1)) / (1 + above.sum(1))
        n_positives = positives.sum(1)
        return 1 - (precision / n_positives[queries]).sum() / (n_positives > 0).sum()


def ranked_above(
    embeddings: torch.Tensor, queries: torch.Tensor, matches: torch.Tensor, temperature: float
) -> torch.Tensor:
    """How much sample j ranks above the match of a query, [M, B] in [0, 1].

    0 for the query and the match themselves.
    """
    unit = normalize(embeddings, dim=1)
    similarities = unit @ unit.T
    gap = similarities[queries] - similarities[queries, matches, None]
    above = (gap / temperature).sigmoid()
    themselves = torch.stack([queries, matches], dim=1)
    return above.scatter(1, themselves, 0.0)
