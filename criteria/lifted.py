"""Lifted structure loss.

Oh Song et al., CVPR 2016, eq. 4; Hermans et al., arXiv 1703.07737, eq. 7.
"""

import torch
from torch.nn.functional import relu

from criteria.base import MinedCriterion
from utilities.choices import one_of
from utilities.functional import masked_logsumexp, masked_mean, pair_columns, pairwise_distances
from utilities.types import Miner, ModelOutput, PairMiner

FORMS = ("paper", "textbook")


class LiftedLoss(MinedCriterion):
    """All positives and all negatives of an anchor at once.

    Softly the farthest positive and the nearest negative. With Euclidean distances d and margin m.
    `paper` (the predecessor's code, Hermans et al.): mean over anchors a of [log sum_p exp(d_ap) +
    log sum_n exp(m - d_an)]+. `textbook` (Oh Song et al.): half the mean over positive pairs (a, p)
    of [log(sum_n exp(m - d_an) + sum_n exp(m - d_pn)) + d_ap]+^2. Both add l2 * mean norm of the
    batch.

    Args:
        miner: names the positive and negative pairs of each anchor. neg_margin: m.
    """

    MINERS = ("lifted",)

    def __init__(self, miner: Miner, neg_margin: float = 1, l2: float = 0.005, form: str = "paper"):
        super().__init__(miner)
        self.neg_margin, self.l2, self.form = neg_margin, l2, one_of("form", form, FORMS)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = output.embeddings
        positives, negatives = pairs(self.miner, embeddings.detach(), labels)
        distances = pairwise_distances(embeddings)
        columns, real = pair_columns(positives)
        to_positives = distances.gather(1, columns)  # [B, K]
        nearest_negative = masked_logsumexp(-distances, negatives, 1) + self.neg_margin
        if self.form == "paper":
            hinge = relu(masked_logsumexp(to_positives, real, 1) + nearest_negative)
            lifted = masked_mean(hinge, negatives.any(1))
        else:
            both = torch.logaddexp(nearest_negative[:, None], nearest_negative[columns])
            hinge = relu(both + to_positives).masked_fill(~real, 0.0)
            lifted = masked_mean(hinge.square(), real) / 2
        return lifted + self.l2 * torch.linalg.vector_norm(embeddings, dim=1).mean()


def pairs(
    miner: Miner, embeddings: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks [B, B] of the positive and negative pairs of each anchor, as the miner chose them."""
    if isinstance(miner, PairMiner):
        return miner.pairs(labels)
    anchors, positives, negatives = miner(embeddings, labels).unbind(1)
    nothing = torch.zeros(len(labels), len(labels), dtype=torch.bool, device=labels.device)
    positive_pairs, negative_pairs = nothing, nothing.clone()
    positive_pairs[anchors, positives] = True
    negative_pairs[anchors, negatives] = True
    return positive_pairs, negative_pairs
