"""Quadruplet loss (Chen et al., CVPR 2017, eq. 6)."""

import torch
from torch.nn.functional import relu

from criteria.base import Criterion
from utilities.functional import graph_zero
from utilities.types import ModelOutput


class QuadrupletLoss(Criterion):
    """A triplet loss that also keeps positives nearer to each other than two samples of two other classes.

    Over mined triplets (a, p, n) and a fourth sample m of a class that neither a nor n has, drawn
    at random: mean [|a-p|^2 - |a-n|^2 + margin_alpha_1]+ + mean [|a-p|^2 - |n-m|^2 +
        margin_alpha_2]+. The second term is left
    out where the batch has no third class. The predecessor's code takes unsquared distances and any
    m other than n.
    """

    NEEDS = ("miner",)

    def __init__(self, miner, margin_alpha_1: float = 0.2, margin_alpha_2: float = 0.2):
        super().__init__()
        self.miner, self.margin_alpha_1, self.margin_alpha_2 = miner, margin_alpha_1, margin_alpha_2

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = output.embeddings
        triplets = self.miner(embeddings.detach(), labels)
        if len(triplets) == 0:
            return graph_zero(embeddings)
        fourth, exists = draw_fourth(labels, triplets)
        anchors, positives, negatives = embeddings[triplets].unbind(1)
        to_positive = (anchors - positives).square().sum(-1)
        first = relu(to_positive - (anchors - negatives).square().sum(-1) + self.margin_alpha_1)
        second = relu(
            to_positive - (negatives - embeddings[fourth]).square().sum(-1) + self.margin_alpha_2
        )
        return first.mean() + (second * exists).sum() / exists.sum().clamp(min=1)


def draw_fourth(labels: torch.Tensor, triplets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A random sample of a class that neither anchor nor negative has, per triplet: indices [T] and whether one exists [T]."""
    # Sorted by class, the samples of two classes are two runs of ranks; a rank among the others
    # skips both.
    by_class, (_, position, counts) = (
        labels.argsort(),
        labels.unique(return_inverse=True, return_counts=True),
    )
    classes = position[triplets[:, [0, 2]]].sort(1).values  # [T, 2]
    sizes, starts = counts[classes], (counts.cumsum(0) - counts)[classes]
    sizes[:, 1] *= classes[:, 0] != classes[:, 1]  # one run to skip where both are one class
    others = len(labels) - sizes.sum(1)
    rank = (
        (torch.rand(len(triplets), device=labels.device) * others).long().clamp(max=len(labels) - 1)
    )
    for run in range(2):
        rank = torch.where(rank >= starts[:, run], rank + sizes[:, run], rank)
    return by_class[rank.clamp(max=len(labels) - 1)], others > 0
