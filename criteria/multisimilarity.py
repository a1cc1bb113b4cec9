"""Multi-Similarity loss (Wang et al., CVPR 2019, eqs. 10-12), pair mining included."""
import torch
from torch.nn.functional import softplus

from criteria.base import Criterion
from utilities.functional import informative_pairs, log1p_sum_exp
from utilities.types import ModelOutput


class MultiSimilarityLoss(Criterion):
    """Soft-weighted positive and negative pairs that the margin finds informative.

    Per anchor i, over its mined positives P and negatives N with similarities S:
        r+ = log(1 + sum_P exp(-pos_weight (S - pos_thresh))),  r- = log(1 + sum_N exp(neg_weight (S - neg_thresh)))
    The `textbook` loss is mean(r+) / pos_weight + mean(r-) / neg_weight. The `paper` form, with which the settings of the
    language-guidance paper were found, has a softplus around each batch mean.

    Args:
        pos_weight, neg_weight: alpha and beta. pos_thresh, neg_thresh: lambda of each side.
        margin: a positive counts if S - margin < the largest negative, a negative if S + margin > the smallest positive.
        dim: axis of the similarity matrix over which pairs are compared and summed (it is symmetric).
    """

    def __init__(self, pos_weight: float = 2, neg_weight: float = 40, margin: float = 0.1,
                 pos_thresh: float = 0.5, neg_thresh: float = 0.5, dim: int = 0, form: str = "paper"):
        super().__init__()
        self.pos_weight, self.neg_weight, self.margin = pos_weight, neg_weight, margin
        self.pos_thresh, self.neg_thresh, self.dim = pos_thresh, neg_thresh, dim
        self.form = form

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        similarities = output.embeddings @ output.embeddings.T
        positives, negatives = informative_pairs(similarities.detach(), labels, self.margin, self.dim)
        positive_term = log1p_sum_exp(-self.pos_weight * (similarities - self.pos_thresh), positives, self.dim).mean()
        negative_term = log1p_sum_exp(self.neg_weight * (similarities - self.neg_thresh), negatives, self.dim).mean()
        if self.form == "paper":
            positive_term, negative_term = softplus(positive_term), softplus(negative_term)
        return positive_term / self.pos_weight + negative_term / self.neg_weight
