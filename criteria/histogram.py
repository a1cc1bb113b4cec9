"""Histogram loss (Ustinova and Lempitsky, NeurIPS 2016, eqs. 2-6)."""

import torch
from torch.nn.functional import normalize

from criteria.base import Criterion
from utilities.types import ModelOutput


class HistogramLoss(Criterion):
    """The probability that a random negative pair is more similar than a random positive pair.

    Cosine similarities of all pairs go into two histograms over [-1, 1], each shared linearly
    between the two nearest of `nbins` nodes; the loss is the sum over nodes of h-_r * (h+_1 + ... +
    h+_r).
    """

    def __init__(self, nbins: int = 65):
        super().__init__()
        self.nbins = nbins

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        rows, columns = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
        same = labels[rows] == labels[columns]
        unit = normalize(output.embeddings, dim=1)
        similarities = (unit @ unit.T)[rows, columns].clamp(-1, 1)
        positives, negatives = self.histograms(similarities, same)
        return (negatives * positives.cumsum(0)).sum()

    def histograms(
        self, similarities: torch.Tensor, same: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised histograms [nbins] of positive and negative pairs, 0 where there is none."""
        n_positives = same.sum()
        n_negatives = len(same) - n_positives
        position = (similarities + 1) * ((self.nbins - 1) / 2)
        node = position.detach().floor().long().clamp(0, self.nbins - 2)
        upper_share = position - node
        node = node + self.nbins * ~same  # both histograms side by side
        both = (
            similarities.new_zeros(2 * self.nbins)
            .index_add(0, node, 1 - upper_share)
            .index_add(0, node + 1, upper_share)
        )
        positives, negatives = both[: self.nbins], both[self.nbins :]
        return positives / n_positives.clamp(min=1), negatives / n_negatives.clamp(min=1)
