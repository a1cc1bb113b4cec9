"""Random triplets."""

import torch

from batchminer.base import BoundedMiner, Ranked, numbered
from utilities.functional import pair_masks, ragged_is_cheap
from utilities.types import Triplets

FEW = 64  # times as many as wanted are shuffled; of more, repetitions are rare enough


class RandomMiner(BoundedMiner):
    """As many triplets as the batch has samples, from all admissible ones without replacement.

    All of them if there are fewer.
    """

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        positives, negatives = map(Ranked, pair_masks(labels))
        available = positives.counts * negatives.counts
        ends = available.cumsum(0)
        chosen, real = self.chosen(ends[-1], len(labels))
        anchors = torch.searchsorted(ends, chosen, right=True).clamp(max=len(labels) - 1)
        numbers = chosen - (ends - available)[anchors]
        return Triplets(numbered(positives, negatives, anchors, numbers), real)

    def chosen(
        self, available: torch.Tensor, wanted: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Different numbers below `available`, every set of them equally likely; which are real."""
        if ragged_is_cheap(available):
            return self.choose(int(available), wanted, available.device), None
        return self.choose_padded(available, wanted)

    def choose(self, available: int, wanted: int, device: torch.device) -> torch.Tensor:
        """Up to `wanted` of them."""
        if available <= FEW * wanted:
            return self.permutation(available, device)[:wanted]
        # Twice as many draws as needed leave enough after repetitions (at most one in 32 is one)
        # are removed.
        drawn = self.below(torch.full((2 * wanted,), available, device=device)).unique()
        return drawn[self.permutation(len(drawn), device)[:wanted]]

    def choose_padded(
        self, available: torch.Tensor, wanted: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`wanted` of them, 0 in place of what is missing; no count is asked for.

        Both ways are gone, because which one counts is not known here. Gives the numbers and which
        of them are real.
        """
        few, few_real = self._few(available, wanted)
        many, many_real = self._many(available, wanted)
        is_few = available <= FEW * wanted
        real = torch.where(is_few, few_real, many_real)
        return torch.where(is_few, few, many).masked_fill(~real, 0), real

    def _few(self, available: torch.Tensor, wanted: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Shuffled by keys, those that there are before the others."""
        numbers = torch.arange(FEW * wanted, device=available.device)
        keys = self.uniform(len(numbers), available.device)
        keys = keys.masked_fill(numbers >= available, 1.0)
        return keys.argsort(stable=True)[:wanted], numbers[:wanted] < available

    def _many(self, available: torch.Tensor, wanted: int) -> tuple[torch.Tensor, torch.Tensor]:
        """In the order in which they are drawn first, repetitions behind all others."""
        drawn = self.below(available.expand(2 * wanted))
        ascending, places = drawn.sort(stable=True)
        is_repeated = torch.zeros_like(drawn).scatter(
            0, places, (ascending.diff(prepend=ascending[:1] - 1) == 0).long()
        )
        order = is_repeated.argsort(stable=True)[:wanted]
        return drawn[order], is_repeated[order] == 0
