"""Distance-weighted sampling (Wu et al., ICCV 2017, section 3.2)."""

import torch

from batchminer.base import BoundedMiner, per_anchor
from utilities.choices import one_of
from utilities.functional import masked_max, pair_masks, pairwise_distances
from utilities.types import Triplets

FORMS = ("paper", "textbook")


class DistanceMiner(BoundedMiner):
    """A triplet per anchor, its negative drawn inversely to how common its distance is.

    The positive is uniform. On the unit sphere in D dimensions pairs at distance d have density
    q(d) ~ d^(D-2) (1 - d^2/4)^((D-3)/2). An anchor that is alone in its class is its own positive,
    as in the paper's code; without a negative it is left out.

    Args:
        lower_cutoff: smaller distances count as this one.
        upper_cutoff: in the `textbook` form negatives from here on are left out, and all are alike
            if no other remains; the paper's code does not apply it.
    """

    def __init__(self, lower_cutoff: float = 0.5, upper_cutoff: float = 1.4, form: str = "paper"):
        self.lower_cutoff, self.upper_cutoff, self.form = (
            lower_cutoff,
            upper_cutoff,
            one_of("form", form, FORMS),
        )

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        positives, negatives = pair_masks(labels)
        positives.diagonal().logical_or_(~positives.any(1))
        positive = self.draw(positives)
        negative = self.draw(self.negative_weights(embeddings, negatives))
        return per_anchor(positive, negative, negatives.any(1))

    def negative_weights(self, embeddings: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        """[B, B] weights 1/q over the negatives that count for each anchor, 1 at the largest."""
        distances = pairwise_distances(embeddings).clamp(
            self.lower_cutoff, torch.finfo(embeddings.dtype).max
        )
        dimension = embeddings.shape[1]
        # The clamp only concerns antipodal or unnormalised embeddings, whose density is zero.
        log_weights = (
            -(dimension - 2) * distances.log()
            - (dimension - 3) / 2 * (1 - distances.square() / 4).clamp(min=1e-8).log()
        )
        if self.form == "textbook":
            # Before any weight is taken: beside a far one those of near negatives would vanish.
            near = negatives & (distances < self.upper_cutoff)
            has_near = near.any(1, keepdim=True)
            log_weights = log_weights.masked_fill(~has_near, 0.0)
            negatives = torch.where(has_near, near, negatives)
        largest = masked_max(log_weights, negatives, 1).unsqueeze(1)
        return (log_weights - largest).exp().masked_fill(~negatives, 0.0)
