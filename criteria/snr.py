"""Signal-to-noise-ratio triplet loss (Yuan et al., CVPR 2019, eqs. 3 and 8)."""

import torch
from torch.nn.functional import relu

from criteria.base import TripletCriterion, TripletRows
from utilities.types import Miner


class SNRLoss(TripletCriterion):
    """A triplet loss whose distance is the variance of the difference over that of the anchor.

    d(a, x) = var(a - x) / var(a) over coordinates; the sum of [d_ap - d_an + margin]+ over its
    active triplets, plus reg_lambda times the mean |sum of coordinates| of the anchors, which keeps
    them centred.
    """

    def __init__(self, miner: Miner, margin: float = 0.2, reg_lambda: float = 0.005):
        super().__init__(miner)
        self.margin, self.reg_lambda = margin, reg_lambda

    def triplet_loss(self, rows: TripletRows) -> torch.Tensor:
        anchors, positives, negatives, _ = rows
        signal = anchors.var(-1, correction=0).clamp(min=1e-12)
        to_positive = (anchors - positives).var(-1, correction=0) / signal
        to_negative = (anchors - negatives).var(-1, correction=0) / signal
        hinge = rows.kept(relu(to_positive - to_negative + self.margin))
        mean_of_active = hinge.sum() / (hinge > 0).sum().clamp(min=1)
        return mean_of_active + self.reg_lambda * rows.mean(anchors.sum(-1).abs())
