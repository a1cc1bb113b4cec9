"""Angular loss with N-pair loss (Wang et al., ICCV 2017, eqs. 7 and 8)."""
import math

import torch
from torch.nn.functional import normalize

from criteria.base import Criterion
from criteria.npair import npair_term, tuples
from utilities.functional import log1p_sum_exp
from utilities.types import ModelOutput


class AngularLoss(Criterion):
    """Bounds the angle at the negative of the triangle of anchor, positive and negative; N-pair loss beside it.

    On unit rows, f = 4 tan^2(alpha) (x_a + x_p).x_n - 2 (1 + tan^2(alpha)) x_a.x_p and the angular term is the mean over
    anchors of log(1 + sum_n exp(f)). Loss: N-pair term (rows as they come) + npair_ang_weight * angular term
    + npair_l2 * mean norm of the batch.

    Args:
        miner: gives each anchor one positive and any number of negatives. alpha: bound in degrees.
    """
    NEEDS = ("miner",)
    MINERS = ("npair",)

    def __init__(self, miner, alpha: float = 45, npair_ang_weight: float = 2, npair_l2: float = 0.005):
        super().__init__()
        self.miner, self.alpha, self.npair_ang_weight, self.npair_l2 = miner, alpha, npair_ang_weight, npair_l2

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = output.embeddings
        positives, negatives = tuples(self.miner(embeddings.detach(), labels), len(labels))
        return (npair_term(embeddings, positives, negatives) + self.npair_ang_weight * self.angular_term(embeddings, positives, negatives)
                + self.npair_l2 * torch.linalg.vector_norm(embeddings, dim=1).mean())

    def angular_term(self, embeddings: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        unit = normalize(embeddings, dim=1)
        squared_tangent = math.tan(math.radians(self.alpha)) ** 2
        similarities = unit @ unit.T
        to_negatives = 4 * squared_tangent * (similarities + similarities[positives])
        to_positive = 2 * (1 + squared_tangent) * similarities.gather(1, positives[:, None])
        return log1p_sum_exp(to_negatives - to_positive, negatives, 1).sum() / negatives.any(1).sum().clamp(min=1)
