"""Semi-hard negatives (Schroff et al., CVPR 2015, section 3.2)."""

import torch

from batchminer.base import BoundedMiner, per_anchor
from utilities.choices import one_of
from utilities.functional import pair_masks, pairwise_distances
from utilities.types import Triplets

FORMS = ("paper", "textbook")


class SemihardMiner(BoundedMiner):
    """A triplet per anchor: a uniform positive and a negative in the margin behind it.

    The negative is uniform among d_ap < d_an < d_ap + margin, with Euclidean distances (`paper`) or
    squared ones (`textbook`), or among all negatives if none is there. Anchors without a positive
    or a negative are left out.
    """

    def __init__(self, margin: float = 0.2, form: str = "paper"):
        self.margin, self.form = margin, one_of("form", form, FORMS)

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        positives, negatives = pair_masks(labels)
        distances = pairwise_distances(embeddings)
        if self.form == "textbook":
            distances = distances.square()
        positive = self.draw(positives)
        to_positive = distances.gather(1, positive[:, None])
        semihard = negatives & (distances > to_positive) & (distances < to_positive + self.margin)
        negative = self.draw(torch.where(semihard.any(1, keepdim=True), semihard, negatives))
        return per_anchor(positive, negative, positives.any(1) & negatives.any(1))
