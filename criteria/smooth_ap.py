"""Smooth-AP (Brown et al., ECCV 2020, eqs. 5 and 6)."""

import torch

from criteria.base import Criterion
from criteria.soft_ranks import counted_above, one_minus_mean
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
        above, positives_above = counted_above(
            output.embeddings, queries, matches, self.temperature, among=positives
        )
        precision = (1 + positives_above) / (1 + above)
        return one_minus_mean(precision, queries, real, positives)
