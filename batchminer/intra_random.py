"""Random triplets within a class.

Milbich et al., DiVA, ECCV 2020, section 3.1: intra-class features.
"""

import torch

from batchminer.base import BatchMiner


class IntraRandomMiner(BatchMiner):
    """As many triplets as the batch has samples, each of three samples of one class.

    The three differ; the "negative" is of the class too. Classes are drawn uniformly from those
    with at least three samples in the batch (raise --samples_per_class above 2).
    """

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        by_class = labels.argsort()
        counts = labels.unique(return_counts=True)[1]
        starts, sizes = (counts.cumsum(0) - counts)[counts > 2], counts[counts > 2]
        if len(sizes) == 0:
            return labels.new_zeros(0, 3)
        drawn = self.below(torch.full_like(labels, len(sizes)))
        size = sizes[drawn]
        # A rank among the remaining ones, moved past those that are taken.
        first, second, third = self.below(size), self.below(size - 1), self.below(size - 2)
        second = second + (second >= first)
        third = third + (third >= torch.minimum(first, second))
        third = third + (third >= torch.maximum(first, second))
        return by_class[starts[drawn][:, None] + torch.stack([first, second, third], dim=1)]
