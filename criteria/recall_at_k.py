"""Recall@k surrogate loss (Patel et al., CVPR 2022, eqs. 4-6)."""

from collections.abc import Sequence

import torch

from criteria.base import Criterion
from criteria.smooth_ap import ranked_above
from utilities.functional import graph_zero, pair_masks
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
        self.k, self.rank_temperature = list(k), rank_temperature
        self.similarity_temperature = similarity_temperature

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        positives, _ = pair_masks(labels)
        queries, matches = positives.nonzero(as_tuple=True)  # every (query, positive), M of them
        if len(queries) == 0:
            return graph_zero(output.embeddings)
        temperature = self.similarity_temperature
        ranks = 1 + ranked_above(output.embeddings, queries, matches, temperature).sum(1)
        limits = torch.tensor(self.k, dtype=ranks.dtype, device=ranks.device)
        within = ((limits[:, None] - ranks) / self.rank_temperature).sigmoid().mean(0)  # [M]
        n_positives = positives.sum(1)
        return 1 - (within / n_positives[queries]).sum() / (n_positives > 0).sum()
