"""All pairs of each anchor, for the lifted structure loss."""
import torch

from batchminer.base import BatchMiner, Ranked, spread
from utilities.functional import pair_masks


class LiftedMiner(BatchMiner):
    """The fewest triplets in which every positive and every negative pair of each anchor comes at least once.

    Positives and negatives of an anchor are paired in a random rotation, the shorter list over and over again. Anchors
    without a positive or a negative are left out.
    """

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        positives, negatives = map(Ranked, pair_masks(labels))
        longer = torch.maximum(positives.counts, negatives.counts)
        anchors, position = spread(longer * ((positives.counts > 0) & (negatives.counts > 0)))
        rows = [anchors]
        for kind in (positives, negatives):
            rotation = self.below(kind.counts)
            rows.append(kind(anchors, (position + rotation[anchors]) % kind.counts[anchors]))
        return torch.stack(rows, dim=1)
