"""Tuples of the N-pair loss (Sohn, NeurIPS 2016, section 3.2)."""
import torch

from batchminer.base import BatchMiner
from utilities.functional import pair_masks


class NPairMiner(BatchMiner):
    """One uniform positive per anchor with all its negatives, as (anchor, positive, negative) for each of them.

    `paper`: every sample with a positive is an anchor, every sample of another class its negative. `mc`: one random
    (anchor, positive) per class, and the negatives are the positives of the other classes.
    """

    def __init__(self, form: str = "paper"):
        self.form = form

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.one_pair_per_class(labels) if self.form == "mc" else self.every_anchor(labels)

    def every_anchor(self, labels: torch.Tensor) -> torch.Tensor:
        positives, negatives = pair_masks(labels)
        positive = self.draw(positives)
        anchors, others = (negatives & positives.any(1, keepdim=True)).nonzero(as_tuple=True)
        return torch.stack([anchors, positive[anchors], others], dim=1)

    def one_pair_per_class(self, labels: torch.Tensor) -> torch.Tensor:
        shuffled = self.permutation(len(labels), labels.device)
        by_class = shuffled[labels[shuffled].argsort(stable=True)]
        counts = labels.unique(return_counts=True)[1]
        first = (counts.cumsum(0) - counts)[counts > 1]
        anchors, positives = by_class[first], by_class[first + 1]
        here, there = (~torch.eye(len(first), dtype=torch.bool, device=labels.device)).nonzero(as_tuple=True)
        return torch.stack([anchors[here], positives[here], positives[there]], dim=1)
