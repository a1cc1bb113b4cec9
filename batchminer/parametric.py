"""Negatives by a fixed distribution over distances (Roth et al., PADS, CVPR 2020, section 3.2)."""

from collections.abc import Sequence

import torch

from batchminer.base import BoundedMiner, per_anchor
from utilities.choices import part_of
from utilities.functional import Constant, pair_masks, pairwise_distances
from utilities.types import Triplets

# Mode -> the distances that count; all others come only if none of these is there.
BANDS = {
    "uniform": (0.0, float("inf")),
    "hards": (0.0, 0.5),
    "semihards": (0.3, 0.7),
    "veryhards": (0.0, 0.3),
}


class ParametricMiner(BoundedMiner):
    """A triplet per anchor: a uniform positive, and a negative by a step function of its distance.

    Distances within support_lim fall into n_support - 1 equal bins; bins whose centre lies in the
    mode's band have weight 1, the others 1e-15; negatives outside the limits are left out. All
    negatives are alike if none has weight. Anchors without a positive or a negative are left out.

    Args:
        mode: uniform, hards (d <= 0.5), semihards (0.3 to 0.7) or veryhards (d <= 0.3).
    """

    def __init__(
        self,
        mode: str = "semihards",
        n_support: int = 30,
        support_lim: Sequence[float] = (0.1, 1.9),
    ):
        nearest, farthest = support_lim
        support = torch.linspace(nearest, farthest, n_support)
        centres = (support[1:] + support[:-1]) / 2
        low, high = part_of(BANDS, "mode", mode)
        self.support = Constant(support)
        self.weights = Constant(torch.where((centres >= low) & (centres <= high), 1.0, 1e-15))

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        positives, negatives = pair_masks(labels)
        weights = self.distance_weights(pairwise_distances(embeddings)) * negatives
        weights = torch.where(weights.any(1, keepdim=True), weights, negatives.to(weights.dtype))
        usable = positives.any(1) & negatives.any(1)
        return per_anchor(self.draw(positives), self.draw(weights), usable)

    def distance_weights(self, distances: torch.Tensor) -> torch.Tensor:
        """Weight of each distance, 0 outside the support."""
        support, bin_weights = self.support.like(distances), self.weights.like(distances)
        inside = (distances >= support[0]) & (distances <= support[-1])
        bins = torch.bucketize(distances, support[1:-1])
        return bin_weights[bins].masked_fill(~inside, 0.0)
