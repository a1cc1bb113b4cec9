"""Random triplets within a class.

Milbich et al., DiVA, ECCV 2020, section 3.1: intra-class features.
"""

import torch

from batchminer.base import BoundedMiner, no_triplets
from utilities.functional import ragged_is_cheap
from utilities.types import Triplets


class IntraRandomMiner(BoundedMiner):
    """As many triplets as the batch has samples, each of three samples of one class.

    The three differ; the "negative" is of the class too. Classes are drawn uniformly from those
    with at least three samples in the batch (raise --samples_per_class above 2).
    """

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        by_class = labels.argsort(stable=True)
        ordered = labels[by_class]
        starts = torch.searchsorted(ordered, ordered)  # of the class of each place
        sizes = torch.searchsorted(ordered, ordered, right=True) - starts
        places = torch.arange(len(labels), device=labels.device)
        begins_a_class = (places == starts) & (sizes > 2)
        if ragged_is_cheap(labels) and not begins_a_class.any():
            return no_triplets(labels)
        numbers = begins_a_class.cumsum(0)
        drawn = self.below(numbers[-1:].expand_as(labels))
        start = torch.searchsorted(numbers, drawn, right=True).clamp(max=len(labels) - 1)
        size = sizes[start]
        # A rank among the remaining ones, moved past those that are taken.
        first, second, third = self.below(size), self.below(size - 1), self.below(size - 2)
        second = second + (second >= first)
        third = third + (third >= torch.minimum(first, second))
        third = third + (third >= torch.maximum(first, second))
        chosen = start[:, None] + torch.stack([first, second, third], dim=1)
        rows = by_class[chosen.clamp(max=len(labels) - 1)]
        return Triplets(rows, (numbers[-1:] > 0).expand_as(labels))
