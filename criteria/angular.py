"""Angular loss with N-pair loss (Wang et al., ICCV 2017, eqs. 7 and 8)."""
import math

import torch
from torch.nn.functional import normalize

from criteria.base import Criterion
from criteria.npair import npair_term, tuple_term, tuples
from utilities.types import ModelOutput, Tuples


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
        chosen = tuples(self.miner, embeddings.detach(), labels)
        return (npair_term(embeddings, chosen) + self.npair_ang_weight * self.angular_term(embeddings, chosen)
                + self.npair_l2 * torch.linalg.vector_norm(embeddings, dim=1).mean())

    def angular_term(self, embeddings: torch.Tensor, chosen: Tuples) -> torch.Tensor:
        unit, squared_tangent = normalize(embeddings, dim=1), math.tan(math.radians(self.alpha)) ** 2
        anchors, positives = unit[chosen.anchors], unit[chosen.positives]
        to_candidates = 4 * squared_tangent * (anchors + positives) @ unit[chosen.candidates].T
        return tuple_term(to_candidates, 2 * (1 + squared_tangent) * (anchors * positives).sum(1), chosen.negatives)
