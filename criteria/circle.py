"""Circle loss (Sun et al., CVPR 2020, eqs. 6 and 8, pair-wise labels)."""

import torch
from torch.nn.functional import normalize, softplus

from criteria.base import AnchoredCriterion
from utilities.functional import masked_logsumexp, masked_mean, pair_columns, pair_masks
from utilities.types import ModelOutput


class CircleLoss(AnchoredCriterion):
    """Pulls and pushes each similarity the harder the farther it is from its optimum.

    With cosine similarities s, per anchor with positives and negatives:
    log(1 + sum_n exp(gamma [s_n + m]+ (s_n - m)) * sum_p exp(-gamma [1 + m - s_p]+ (s_p - 1 + m))),
    averaged; the weights in [.]+ are constants to the gradient, as in the paper.
    """

    def __init__(self, m: float = 0.4, gamma: float = 80):
        super().__init__()
        self.m, self.gamma = m, gamma

    def anchored_loss(
        self, output: ModelOutput, labels: torch.Tensor, anchors: int
    ) -> torch.Tensor:
        unit = normalize(output.embeddings, dim=1)
        similarities = unit[:anchors] @ unit.T
        positives, negatives = pair_masks(labels, anchors)
        columns, real = pair_columns(positives)
        near = similarities.gather(1, columns)
        pull = self.gamma * (near.detach() - 1 - self.m).clamp(max=0) * (near - 1 + self.m)
        push_weights = (similarities.detach() + self.m).clamp(min=0).mul(self.gamma)
        push = push_weights * (similarities - self.m)
        per_anchor = softplus(
            masked_logsumexp(push, negatives, 1) + masked_logsumexp(pull, real, 1), threshold=50
        )
        return masked_mean(per_anchor, real.any(1) & negatives.any(1))
