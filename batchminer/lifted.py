"""All pairs of each anchor, for the lifted structure loss."""

import torch

from batchminer.base import BatchMiner, Ranked, spread
from utilities.functional import pair_masks


class LiftedMiner(BatchMiner):
    """The fewest triplets in which every pair of each anchor comes at least once.

    That is every positive and every negative pair. Positives and negatives of an anchor are paired
    in a random rotation, the shorter list over and over again. Anchors without a positive or a
    negative are left out.
    """

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        positives, negatives = map(Ranked, self.pairs(labels))
        anchors, position = spread(torch.maximum(positives.counts, negatives.counts))
        rows = [anchors]
        for partners in (positives, negatives):
            rotation = self.below(partners.counts)
            ranks = (position + rotation[anchors]) % partners.counts[anchors]
            rows.append(partners(anchors, ranks))
        return torch.stack(rows, dim=1)

    @staticmethod
    def pairs(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as masks [B, B] of positive and of negative pairs.

        The row of a sample that is no anchor is empty.
        """
        positives, negatives = pair_masks(labels)
        usable = positives.any(1, keepdim=True) & negatives.any(1, keepdim=True)
        return positives & usable, negatives & usable
