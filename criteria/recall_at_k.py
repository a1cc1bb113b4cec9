"""Recall@k surrogate loss (Patel et al., CVPR 2022, eqs. 4-6)."""

from collections.abc import Sequence

import torch

from criteria.base import Criterion
from criteria.soft_ranks import counted_above, one_minus_mean
from utilities.functional import Constant, listed_pairs, pair_masks
from utilities.types import ModelOutput


class RecallAtKLoss(Criterion):
    """One minus the share of positives among the k nearest, averaged over several k.

    Each sample queries the rest of the batch. With sigmoids for steps and the smooth rank of a
    positive p, r = 1 + sum over the other samples j of sigmoid((s_j - s_p) /
    similarity_temperature), recall@k = 1/|P| sum_p sigmoid((k - r) / rank_temperature).

    Args:
        k: the k's, all weighted alike. rank_temperature, similarity_temperature: of the outer and
            the inner sigmoid.
    """

    def __init__(
        self,
        k: Sequence[int] = (1, 2, 4, 8, 16),
        rank_temperature: float = 1,
        similarity_temperature: float = 0.01,
    ):
        super().__init__()
        self.limits, self.rank_temperature = Constant(torch.tensor(k)), rank_temperature
        self.similarity_temperature = similarity_temperature

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        positives, _ = pair_masks(labels)
        # Every (query, positive), M of them.
        queries, matches, real = listed_pairs(positives, width=len(labels))
        temperature = self.similarity_temperature
        above, _ = counted_above(output.embeddings, queries, matches, temperature)
        ranks = 1 + above
        limits = self.limits.like(ranks)[:, None]
        within = ((limits - ranks) / self.rank_temperature).sigmoid().mean(0)  # [M]
        return one_minus_mean(within, queries, real, positives)
