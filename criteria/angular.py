"""Angular loss with N-pair loss (Wang et al., ICCV 2017, eqs. 7 and 8)."""

import math

import torch
from torch.nn.functional import normalize

from criteria.base import MinedCriterion
from criteria.npair import tuple_term, tuples
from utilities.types import Miner, ModelOutput, Tuples


class AngularLoss(MinedCriterion):
    """Bounds the angle at the negative of each triangle; N-pair loss beside it.

    The triangle is that of anchor, positive and negative. On unit rows, f = 4 tan^2(alpha) (x_a +
    x_p).x_n - 2 (1 + tan^2(alpha)) x_a.x_p and the angular term is the mean over anchors of log(1 +
    sum_n exp(f)). Loss: N-pair term (rows as they come) + npair_ang_weight * angular term +
    npair_l2 * mean norm of the batch.

    Args:
        miner: gives each anchor one positive and any number of negatives. alpha: bound in degrees.
    """

    MINERS = ("npair",)

    def __init__(
        self, miner: Miner, alpha: float = 45, npair_ang_weight: float = 2, npair_l2: float = 0.005
    ):
        super().__init__(miner)
        self.alpha, self.npair_ang_weight, self.npair_l2 = alpha, npair_ang_weight, npair_l2

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = output.embeddings
        chosen = tuples(self.miner, embeddings.detach(), labels)
        norms = torch.linalg.vector_norm(embeddings, dim=1)
        unit = normalize(embeddings, dim=1)
        # One product for both terms: of rows as they come with unit candidates, [B, N].
        products = embeddings @ unit[chosen.candidates].T
        npair_term = tuple_term(
            _rows(products * norms[chosen.candidates], chosen.anchors),
            (embeddings[chosen.anchors] * embeddings[chosen.positives]).sum(1),
            chosen.negatives,
        )
        angular_term = self.angular_term(products / norms.clamp(min=1e-12)[:, None], unit, chosen)
        return npair_term + self.npair_ang_weight * angular_term + self.npair_l2 * norms.mean()

    def angular_term(
        self, cosines: torch.Tensor, unit: torch.Tensor, chosen: Tuples
    ) -> torch.Tensor:
        """The part above the N-pair term, from unit rows [B, D].

        The cosines [B, N] are those of all samples with the candidates.
        """
        squared_tangent = math.tan(math.radians(self.alpha)) ** 2
        anchor_plus_positive = _rows(cosines, chosen.anchors) + cosines[chosen.positives]
        to_candidates = 4 * squared_tangent * anchor_plus_positive
        anchor_by_positive = (unit[chosen.anchors] * unit[chosen.positives]).sum(1)
        to_positive = 2 * (1 + squared_tangent) * anchor_by_positive
        return tuple_term(to_candidates, to_positive, chosen.negatives)


def _rows(matrix: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """The rows of the anchors, without a copy where every sample is one."""
    return matrix if len(anchors) == len(matrix) else matrix[anchors]
