"""Multi-Similarity loss (Wang et al., CVPR 2019, eqs. 10-12), pair mining included."""

import torch
from torch.nn.functional import softplus

from criteria.base import AnchoredCriterion
from utilities.choices import one_of
from utilities.functional import (
    masked_logsumexp,
    masked_max,
    masked_min,
    pair_columns,
    pair_masks,
)
from utilities.types import ModelOutput

FORMS = ("paper", "textbook")


class MultiSimilarityLoss(AnchoredCriterion):
    """Soft-weighted positive and negative pairs that the margin finds informative.

    Per anchor i, over its mined positives P and negatives N with similarities S:
        r+ = log(1 + sum_P exp(-pos_weight (S - pos_thresh))),
        r- = log(1 + sum_N exp(neg_weight (S - neg_thresh))).
    The `textbook` loss is mean(r+) / pos_weight + mean(r-) / neg_weight. The `paper` form, with
    which the settings of the language-guidance paper were found, has a softplus around each batch
    mean.

    Args:
        pos_weight, neg_weight: alpha and beta. pos_thresh, neg_thresh: lambda of each side.
        margin: a positive counts if S - margin < the largest negative, a negative if S + margin >
            the smallest positive.
        dim: axis of the similarity matrix over which pairs are compared and summed (it is
            symmetric).
    """

    def __init__(
        self,
        pos_weight: float = 2,
        neg_weight: float = 40,
        margin: float = 0.1,
        pos_thresh: float = 0.5,
        neg_thresh: float = 0.5,
        dim: int = 0,
        form: str = "paper",
    ):
        super().__init__()
        self.pos_weight, self.neg_weight, self.margin = pos_weight, neg_weight, margin
        self.pos_thresh, self.neg_thresh, self.dim = pos_thresh, neg_thresh, dim
        self.form = one_of("form", form, FORMS)

    def anchored_loss(
        self, output: ModelOutput, labels: torch.Tensor, anchors: int
    ) -> torch.Tensor:
        similarities = output.embeddings[:anchors] @ output.embeddings.T
        if self.dim == 0 and anchors == len(labels):
            similarities = similarities.T
        positives, negatives = pair_masks(labels, anchors)
        columns, real = pair_columns(positives)
        near = similarities.gather(1, columns)
        with torch.no_grad():  # pairs that the margin finds informative
            hardest_negative = masked_max(similarities, negatives, 1)
            hardest_positive = masked_min(near, real, 1)
            hard_positives = real & (near < (hardest_negative + self.margin)[:, None])
            hard_negatives = negatives & (similarities > (hardest_positive - self.margin)[:, None])
        pull = masked_logsumexp(-self.pos_weight * near, hard_positives, 1)
        push = masked_logsumexp(self.neg_weight * similarities, hard_negatives, 1)
        positive_term = softplus(pull + self.pos_weight * self.pos_thresh, threshold=50).mean()
        negative_term = softplus(push - self.neg_weight * self.neg_thresh, threshold=50).mean()
        if self.form == "paper":
            positive_term, negative_term = softplus(positive_term), softplus(negative_term)
        return positive_term / self.pos_weight + negative_term / self.neg_weight
