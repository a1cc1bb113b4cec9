"""What all miners share: no gradient, fp32, and the ways to draw from masks."""

import torch

from utilities.functional import at_least_float32, ragged_is_cheap, require_real, whole_labels
from utilities.types import Triplets


class BatchMiner:
    """A subclass writes `mine(embeddings, labels)`.

    `generator` draws; None is torch's own, which a run seeds at the start of each epoch. One of
    another device than the batch's makes each draw wait for a copy.
    """

    generator: torch.Generator | None = None

    @torch.no_grad()
    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Triplets [T, 3] on the device of `embeddings` [B, D]; T = 0 if the batch has none.

        Raises ValueError for labels [B] that are no whole numbers, or integer embeddings.
        """
        return self.mine(*_checked(embeddings, labels))

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define mine(embeddings, labels)")

    def draw(self, weights: torch.Tensor) -> torch.Tensor:
        """One column per row with probability proportional to its weight, [R, B] -> [R].

        Weights that are bool are alike; a row without weight gives 0.
        """
        weights = weights.float() if weights.dtype == torch.bool else weights
        cumulated = weights.cumsum(1)
        quantile = self.uniform(len(weights), weights.device).to(weights.dtype)[:, None]
        share = quantile * cumulated[:, -1:]
        column = torch.searchsorted(cumulated, share, right=True).clamp(max=weights.shape[1] - 1)
        # Rounding of the sums may point beside the weights, once in millions of draws.
        heaviest = weights.argmax(1, keepdim=True)
        return torch.where(weights.gather(1, column) > 0, column, heaviest).squeeze(1)

    def below(self, limits: torch.Tensor) -> torch.Tensor:
        """A uniform integer in [0, limit) for each limit; 0 where the limit is 0."""
        drawn = (self.uniform(len(limits), limits.device) * limits).long()
        return torch.minimum(drawn, (limits - 1).clamp(min=0))

    def uniform(self, count: int, device: torch.device) -> torch.Tensor:
        """[count] in [0, 1), in double precision so that large ranges are reached evenly."""
        drawn = torch.rand(
            count, dtype=torch.float64, device=self._draws_on(device), generator=self.generator
        )
        return drawn.to(device)

    def permutation(self, count: int, device: torch.device) -> torch.Tensor:
        order = torch.randperm(count, device=self._draws_on(device), generator=self.generator)
        return order.to(device)

    def _draws_on(self, device: torch.device) -> torch.device:
        return device if self.generator is None else self.generator.device


class BoundedMiner(BatchMiner):
    """A miner of no more triplets than the shape of a batch says.

    A subclass writes `mine_padded(embeddings, labels)`, which gives as many with fillers among
    them: indices of the batch too, so that whatever is computed of them is finite.
    """

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.mine_padded(embeddings, labels).compact()

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        raise NotImplementedError(
            f"{type(self).__name__} must define mine_padded(embeddings, labels)"
        )

    @torch.no_grad()
    def padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        """What a call gives, with fillers in place of a count for which a step would wait."""
        return self.mine_padded(*_checked(embeddings, labels))


def _checked(embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    require_real(embeddings)
    return at_least_float32(embeddings), whole_labels(labels)


def per_anchor(positive: torch.Tensor, negative: torch.Tensor, usable: torch.Tensor) -> Triplets:
    """The triplet of each sample that is usable as an anchor.

    Args:
        positive, negative: [B], those of each sample. usable: bool [B].
    """
    anchors = torch.arange(len(positive), device=positive.device)
    return Triplets(torch.stack([anchors, positive, negative], dim=1), usable)


def no_triplets(labels: torch.Tensor) -> Triplets:
    return Triplets(labels.new_zeros(0, 3))


class Ranked:
    """The columns that a mask [R, B] holds in each row, by rank."""

    def __init__(self, mask: torch.Tensor):
        self.counts = mask.sum(1)
        if ragged_is_cheap(mask):
            self.columns = mask.nonzero()[:, 1]
            self.starts = self.counts.cumsum(0) - self.counts
        else:  # all columns of a row, its own first; of bytes, because CUDA sorts no bool
            self.columns = (~mask).byte().argsort(dim=1, stable=True).flatten()
            self.starts = torch.arange(len(mask), device=mask.device) * mask.shape[1]

    def __call__(self, rows: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
        """Column of the given rank (0, 1, ...) in each of the given rows."""
        return self.columns[self.starts[rows] + ranks]


def numbered(
    positives: Ranked, negatives: Ranked, anchors: torch.Tensor, numbers: torch.Tensor
) -> torch.Tensor:
    """Triplets [T, 3] by anchor [T] and number [T].

    The pairs of a positive and a negative of an anchor are numbered, negatives first.
    """
    n_negatives = negatives.counts[anchors].clamp(min=1)
    positive = positives(anchors, numbers // n_negatives)
    negative = negatives(anchors, numbers % n_negatives)
    return torch.stack([anchors, positive, negative], dim=1)


def spread(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row i repeated counts[i] times, with the position 0 .. counts[i]-1 of each repetition."""
    rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return rows, torch.arange(len(rows), device=counts.device) - (counts.cumsum(0) - counts)[rows]
