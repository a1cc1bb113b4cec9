"""Quadruplet loss (Chen et al., CVPR 2017, eq. 6)."""

import torch
from torch.nn.functional import relu

from criteria.base import AnchoredCriterion, MinedCriterion
from utilities.functional import graph_zero
from utilities.types import Miner, ModelOutput


class QuadrupletLoss(MinedCriterion, AnchoredCriterion):
    """A triplet loss that also keeps positives nearer than two samples of two other classes.

    Over mined triplets (a, p, n) and a fourth sample m of a class that neither a nor n has, drawn
    at random: mean [|a-p|^2 - |a-n|^2 + margin_alpha_1]+ + mean [|a-p|^2 - |n-m|^2 +
    margin_alpha_2]+. The second term is left out where the batch has no third class. The
    predecessor's code takes unsquared distances and any m other than n.
    """

    def __init__(self, miner: Miner, margin_alpha_1: float = 0.2, margin_alpha_2: float = 0.2):
        super().__init__(miner)
        self.margin_alpha_1, self.margin_alpha_2 = margin_alpha_1, margin_alpha_2

    def anchored_loss(
        self, output: ModelOutput, labels: torch.Tensor, anchors: int
    ) -> torch.Tensor:
        embeddings = output.embeddings
        triplets = self.mined(embeddings, labels, anchors)
        if len(triplets.rows) == 0:
            return graph_zero(embeddings)
        fourth, exists = draw_fourth(labels, triplets.rows)
        exists = exists if triplets.real is None else exists & triplets.real
        rows, positives, negatives = embeddings[triplets.rows].unbind(1)
        to_positive = (rows - positives).square().sum(-1)
        to_negative = (rows - negatives).square().sum(-1)
        first = relu(to_positive - to_negative + self.margin_alpha_1)
        apart = (negatives - embeddings[fourth]).square().sum(-1)
        second = relu(to_positive - apart + self.margin_alpha_2)
        return triplets.mean(first) + (second * exists).sum() / exists.sum().clamp(min=1)


def draw_fourth(labels: torch.Tensor, triplets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A random sample of a class that neither anchor nor negative has, per triplet.

    Gives indices [T] and whether such a sample exists, bool [T].
    """
    # Sorted by class, the samples of two classes are two runs of ranks; a rank among the others
    # skips both.
    by_class = labels.argsort(stable=True)
    ordered = labels[by_class]
    starts = torch.searchsorted(ordered, labels)  # [B] of the class of each sample
    counts = torch.searchsorted(ordered, labels, right=True) - starts
    others = triplets[:, ::2]  # anchors and negatives, [T, 2]
    starts, order = starts[others].sort(dim=1, stable=True)
    sizes = counts[others].gather(1, order)
    sizes[:, 1] *= starts[:, 0] != starts[:, 1]  # one run to skip where both are one class
    n_outside = len(labels) - sizes.sum(1)
    drawn = (torch.rand(len(triplets), device=labels.device) * n_outside).long()
    rank = drawn.clamp(max=len(labels) - 1)
    for run in range(2):
        rank = torch.where(rank >= starts[:, run], rank + sizes[:, run], rank)
    return by_class[rank.clamp(max=len(labels) - 1)], n_outside > 0
