"""All pairs of each anchor, for the lifted structure loss."""

import torch

from batchminer.base import BoundedMiner, Ranked
from utilities.functional import listed_pairs, pair_masks
from utilities.types import Triplets


class LiftedMiner(BoundedMiner):
    """The fewest triplets in which every pair of each anchor comes at least once.

    That is every positive and every negative pair. Positives and negatives of an anchor are paired
    in a random rotation, the shorter list over and over again. Anchors without a positive or a
    negative are left out.
    """

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        positives, negatives = map(Ranked, self.pairs(labels))
        longer = torch.maximum(positives.counts, negatives.counts)
        places = torch.arange(len(labels), device=labels.device)
        anchors, position, real = listed_pairs(places < longer[:, None])
        rows = [anchors]
        for partners in (positives, negatives):
            counts, rotation = partners.counts.clamp(min=1), self.below(partners.counts)
            rows.append(partners(anchors, (position + rotation[anchors]) % counts[anchors]))
        return Triplets(torch.stack(rows, dim=1), real)

    @staticmethod
    def pairs(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as masks [B, B] of positive and of negative pairs.

        The row of a sample that is no anchor is empty.
        """
        positives, negatives = pair_masks(labels)
        usable = positives.any(1, keepdim=True) & negatives.any(1, keepdim=True)
        return positives & usable, negatives & usable
