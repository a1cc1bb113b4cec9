"""Supervised contrastive loss (Khosla et al., NeurIPS 2020, eq. 2)."""

import torch
from torch.nn.functional import normalize

from criteria.base import AnchoredCriterion
from utilities.functional import masked_logsumexp, masked_mean, pair_masks
from utilities.types import ModelOutput


class SupConLoss(AnchoredCriterion):
    """Each positive of an anchor against all other samples of the batch.

    With cosine similarities s: mean over anchors with positives of
    -1/|P| sum_p log(exp(s_ap / temperature) / sum_{k != a} exp(s_ak / temperature)).
    """

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        self.temperature = temperature

    def anchored_loss(
        self, output: ModelOutput, labels: torch.Tensor, anchors: int
    ) -> torch.Tensor:
        positives, negatives = pair_masks(labels, anchors)
        unit = normalize(output.embeddings, dim=1)
        logits = unit[:anchors] @ unit.T / self.temperature
        n_positives = positives.sum(1)
        mean_positive = logits.masked_fill(~positives, 0.0).sum(1) / n_positives.clamp(min=1)
        normaliser = masked_logsumexp(logits, positives | negatives, 1)
        return masked_mean(normaliser - mean_positive, n_positives > 0)
