"""Soft-hard triplets (Roth and Brattoli, Deep Metric Learning Baselines, 2019)."""

import torch

from batchminer.base import BatchMiner, per_anchor
from utilities.functional import masked_max, masked_min, pair_masks, pairwise_distances


class SofthardMiner(BatchMiner):
    """A triplet per anchor: a negative nearer than the farthest positive, a positive farther than the nearest negative.

    Both uniform among those, or among all of their kind if there are none. Anchors without a
    positive or a negative are left out.
    """

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        positives, negatives = pair_masks(labels)
        distances = pairwise_distances(embeddings)
        hard_positives = positives & (distances > masked_min(distances, negatives, 1)[:, None])
        hard_negatives = negatives & (distances < masked_max(distances, positives, 1)[:, None])
        positive = self.draw(
            torch.where(hard_positives.any(1, keepdim=True), hard_positives, positives)
        )
        negative = self.draw(
            torch.where(hard_negatives.any(1, keepdim=True), hard_negatives, negatives)
        )
        return per_anchor(positive, negative, positives.any(1) & negatives.any(1))
