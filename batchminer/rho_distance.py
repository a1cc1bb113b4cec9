"""Rho-regularised distance-weighted sampling (Roth et al., ICML 2020, section 5)."""

import torch

from batchminer.base import per_anchor
from batchminer.distance import DistanceMiner
from utilities.functional import pair_masks
from utilities.types import Triplets


class RhoDistanceMiner(DistanceMiner):
    """Distance-weighted triplets, some of which push a positive away.

    They keep classes from collapsing. With probability cp the triplet of an anchor is (anchor,
    anchor, another of its class). Anchors alone in their class are left out.

    Args:
        lower_cutoff, upper_cutoff, form: as in DistanceMiner. cp: probability of a switch, in [0,
            1].
    """

    def __init__(
        self,
        lower_cutoff: float = 0.5,
        upper_cutoff: float = 1.4,
        cp: float = 0.2,
        form: str = "paper",
    ):
        super().__init__(lower_cutoff, upper_cutoff, form)
        self.cp = cp

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        positives, negatives = pair_masks(labels)
        anchors, positive = torch.arange(len(labels), device=labels.device), self.draw(positives)
        negative = self.draw(self.negative_weights(embeddings, negatives))
        switched = self.uniform(len(labels), labels.device) < self.cp
        return per_anchor(
            torch.where(switched, anchors, positive),
            torch.where(switched, positive, negative),
            positives.any(1) & (switched | negatives.any(1)),
        )
