"""Soft-hard triplets (Roth and Brattoli, Deep Metric Learning Baselines, 2019)."""

import torch

from batchminer.base import BoundedMiner, per_anchor
from utilities.functional import masked_max, masked_min, pair_masks, pairwise_distances
from utilities.types import Triplets


class SofthardMiner(BoundedMiner):
    """A triplet per anchor of a hard positive and a hard negative.

    The negative is nearer than the farthest positive, the positive farther than the nearest
    negative. Both are uniform among those, or among all of their kind if there are none. Anchors
    without a positive or a negative are left out.
    """

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        positives, negatives = pair_masks(labels)
        distances = pairwise_distances(embeddings)
        hard_positives = positives & (distances > masked_min(distances, negatives, 1)[:, None])
        hard_negatives = negatives & (distances < masked_max(distances, positives, 1)[:, None])
        positive = self.draw(_hard_or_all(hard_positives, positives))
        negative = self.draw(_hard_or_all(hard_negatives, negatives))
        return per_anchor(positive, negative, positives.any(1) & negatives.any(1))


def _hard_or_all(hard: torch.Tensor, every: torch.Tensor) -> torch.Tensor:
    """The rows of a mask [B, B], those of `every` where `hard` is empty."""
    return torch.where(hard.any(1, keepdim=True), hard, every)
