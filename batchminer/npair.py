"""Tuples of the N-pair loss (Sohn, NeurIPS 2016, section 3.2)."""

import torch

from batchminer.base import BatchMiner
from utilities.choices import one_of
from utilities.functional import pair_masks
from utilities.types import Tuples

FORMS = ("paper", "mc")


class NPairMiner(BatchMiner):
    """One uniform positive per anchor with all its negatives.

    There is a triplet for each negative. `paper`: every sample with a positive is an anchor, every
    sample of another class its negative. `mc`: one random (anchor, positive) per class, and the
    negatives are the positives of the other classes.
    """

    def __init__(self, form: str = "paper"):
        self.form = one_of("form", form, FORMS)

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        chosen = self.tuples(labels)
        rows, columns = chosen.negatives.nonzero(as_tuple=True)
        return torch.stack(
            [chosen.anchors[rows], chosen.positives[rows], chosen.candidates[columns]], dim=1
        )

    @torch.no_grad()
    def tuples(self, labels: torch.Tensor) -> Tuples:
        """The same choice without writing every triplet out."""
        return self.one_pair_per_class(labels) if self.form == "mc" else self.every_anchor(labels)

    def every_anchor(self, labels: torch.Tensor) -> Tuples:
        positives, negatives = pair_masks(labels)
        everybody = torch.arange(len(labels), device=labels.device)
        negatives_of_anchors = negatives & positives.any(1, keepdim=True)
        return Tuples(everybody, self.draw(positives), everybody, negatives_of_anchors)

    def one_pair_per_class(self, labels: torch.Tensor) -> Tuples:
        shuffled = self.permutation(len(labels), labels.device)
        by_class, order = labels[shuffled].sort(stable=True)
        counts = by_class.unique_consecutive(return_counts=True)[1]
        first = (counts.cumsum(0) - counts)[counts > 1]
        anchors, positives = shuffled[order[first]], shuffled[order[first + 1]]
        other_classes = ~torch.eye(len(first), dtype=torch.bool, device=labels.device)
        return Tuples(anchors, positives, positives, other_classes)
