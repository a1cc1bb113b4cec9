"""Hard pairs of the multi-similarity paper (Wang et al., CVPR 2019, eqs. 8 and 9)."""

import torch

from batchminer.base import BatchMiner, Ranked, numbered, spread
from utilities.functional import masked_max, masked_min, pair_masks


class MultiSimilarityMiner(BatchMiner):
    """Every triplet of an informative positive and an informative negative of the same anchor.

    A positive is informative if its similarity is below the anchor's most similar negative plus the
    margin, a negative if it is above the least similar positive minus the margin. No draw is
    involved.
    """

    def __init__(self, margin: float = 0.1):
        self.margin = margin

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        informative = self.informative_pairs(embeddings @ embeddings.T, labels)
        positives, negatives = map(Ranked, informative)
        anchors, position = spread(positives.counts * negatives.counts)
        return numbered(positives, negatives, anchors, position)

    def informative_pairs(
        self, similarities: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks [B, B] of positives and negatives of each anchor."""
        positives, negatives = pair_masks(labels)
        hardest_negative = masked_max(similarities, negatives, 1)[:, None]
        hardest_positive = masked_min(similarities, positives, 1)[:, None]
        near_a_negative = similarities < hardest_negative + self.margin
        near_a_positive = similarities > hardest_positive - self.margin
        return positives & near_a_negative, negatives & near_a_positive
