"""Distance-weighted negatives for random anchors."""

import torch

from batchminer.distance import DistanceMiner
from utilities.functional import pair_masks


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

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.shuffle_labels:
            labels = labels[self.permutation(len(labels), labels.device)]
        positives, negatives = pair_masks(labels)
        usable = (positives.any(1) & negatives.any(1)).nonzero().squeeze(1)
        if len(usable) == 0:
            return labels.new_zeros(0, 3)
        anchors = usable[self.below(torch.full_like(labels, len(usable)))]
        weights = self.negative_weights(embeddings, negatives)
        positive, negative = self.draw(positives[anchors]), self.draw(weights[anchors])
        return torch.stack([anchors, positive, negative], dim=1)
