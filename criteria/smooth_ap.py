"""Smooth-AP (Brown et al., ECCV 2020, eqs. 5 and 6)."""

import torch
from torch.nn.functional import normalize

from criteria.base import Criterion
from utilities.functional import listed_pairs, pair_masks
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
        # Every (query, positive), M of them.
        queries, matches, real = listed_pairs(positives, width=len(labels))
        above = ranked_above(output.embeddings, queries, matches, self.temperature)
        precision = (1 + (above * positives[queries]).sum(1)) / (1 + above.sum(1))
        return one_minus_mean(precision, queries, real, positives)


def one_minus_mean(
    values: torch.Tensor,
    queries: torch.Tensor,
    real: torch.Tensor | None,
    positives: torch.Tensor,
) -> torch.Tensor:
    """1 less the mean over queries of the mean over their positives; 0 where there is none.

    Args:
        values: [M], of pairs of a query and a positive. queries: [M]. real: bool [M], which pairs
            count; None: all. positives: bool [B, B].
    """
    n_positives = positives.sum(1)
    shares = values / n_positives[queries].clamp(min=1)
    total = (shares if real is None else shares.masked_fill(~real, 0.0)).sum()
    n_queries = (n_positives > 0).sum()
    return (1 - total / n_queries.clamp(min=1)) * (n_queries > 0)


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
