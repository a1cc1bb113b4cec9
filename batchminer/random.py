"""Random triplets."""

import torch

from batchminer.base import BatchMiner, Ranked, numbered
from utilities.functional import pair_masks


class RandomMiner(BatchMiner):
    """As many triplets as the batch has samples, from all admissible ones without replacement.

    All of them if there are fewer.
    """

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        positives, negatives = map(Ranked, pair_masks(labels))
        available = positives.counts * negatives.counts
        ends = available.cumsum(0)
        chosen = self.choose(int(ends[-1]), len(labels), labels.device)
        anchors = torch.searchsorted(ends, chosen, right=True)
        return numbered(positives, negatives, anchors, chosen - (ends - available)[anchors])

    def choose(self, available: int, wanted: int, device: torch.device) -> torch.Tensor:
        """Up to `wanted` different numbers below `available`, every set of them equally likely."""
        if available <= 64 * wanted:
            return self.permutation(available, device)[:wanted]
        # Twice as many draws as needed leave enough after repetitions (at most one in 32 is one)
        # are removed.
        drawn = self.below(torch.full((2 * wanted,), available, device=device)).unique()
        return drawn[self.permutation(len(drawn), device)[:wanted]]
