"""Distance-weighted negatives for random anchors."""

import torch

from batchminer.base import no_triplets
from batchminer.distance import DistanceMiner
from utilities.functional import pair_masks, ragged_is_cheap
from utilities.types import Triplets


class RandomDistanceMiner(DistanceMiner):
    """As many triplets as the batch has samples, of random anchors.

    Anchors are drawn with repetition, their positives and negatives as in the distance miner. The
    predecessor's code shuffles the labels first, so that positives and negatives are of random
    classes: a control, not a way to learn classes. `shuffle_labels` does that too. Anchors without
    a positive or a negative are left out.

    Args:
        lower_cutoff, upper_cutoff, form: as in DistanceMiner.
    """

    def __init__(
        self,
        lower_cutoff: float = 0.5,
        upper_cutoff: float = 1.4,
        shuffle_labels: bool = False,
        form: str = "paper",
    ):
        super().__init__(lower_cutoff, upper_cutoff, form)
        self.shuffle_labels = shuffle_labels

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        if self.shuffle_labels:
            labels = labels[self.permutation(len(labels), labels.device)]
        positives, negatives = pair_masks(labels)
        usable = positives.any(1) & negatives.any(1)
        if ragged_is_cheap(labels) and not usable.any():
            return no_triplets(labels)
        numbers = usable.cumsum(0)
        drawn = self.below(numbers[-1:].expand_as(labels))
        anchors = torch.searchsorted(numbers, drawn, right=True).clamp(max=len(labels) - 1)
        weights = self.negative_weights(embeddings, negatives)
        positive, negative = self.draw(positives[anchors]), self.draw(weights[anchors])
        rows = torch.stack([anchors, positive, negative], dim=1)
        return Triplets(rows, (numbers[-1:] > 0).expand_as(labels))
