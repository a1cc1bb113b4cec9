"""Tuples of the N-pair loss (Sohn, NeurIPS 2016, section 3.2)."""

import torch

from batchminer.base import BatchMiner
from utilities.functional import pair_masks
from utilities.types import Tuples


class NPairMiner(BatchMiner):
    """One uniform positive per anchor with all its negatives, as (anchor, positive, negative) for each of them.

    `paper`: every sample with a positive is an anchor, every sample of another class its negative.
    `mc`: one random (anchor, positive) per class, and the negatives are the positives of the other
    classes.
    """

    def __init__(self, form: str = "paper"):
        self.form = form

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        chosen = self.tuples(labels)
        anchors, negatives = chosen.negatives.nonzero(as_tuple=True)
        return torch.stack(
            [chosen.anchors[anchors], chosen.positives[anchors], chosen.candidates[negatives]],
            dim=1,
        )

    @torch.no_grad()
    def tuples(self, labels: torch.Tensor) -> Tuples:
        """The same choice without writing every triplet out."""
        return self.one_pair_per_class(labels) if self.form == "mc" else self.every_anchor(labels)

    def every_anchor(self, labels: torch.Tensor) -> Tuples:
        positives, negatives = pair_masks(labels)
        everybody = torch.arange(len(labels), device=labels.device)
        return Tuples(
            everybody, self.draw(positives), everybody, negatives & positives.any(1, keepdim=True)
        )

    def one_pair_per_class(self, labels: torch.Tensor) -> Tuples:
        shuffled = self.permutation(len(labels), labels.device)
        by_class, order = labels[shuffled].sort(stable=True)
        counts = by_class.unique_consecutive(return_counts=True)[1]
        first = (counts.cumsum(0) - counts)[counts > 1]
        anchors, positives = shuffled[order[first]], shuffled[order[first + 1]]
        return Tuples(
            anchors,
            positives,
            positives,
            ~torch.eye(len(first), dtype=torch.bool, device=labels.device),
        )
