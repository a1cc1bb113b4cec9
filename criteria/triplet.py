"""Triplet loss (Schroff et al., CVPR 2015, eq. 2)."""

import torch
from torch.nn.functional import relu

from criteria.base import TripletCriterion, TripletRows
from utilities.choices import one_of
from utilities.functional import row_distances
from utilities.types import Miner

FORMS = ("paper", "textbook", "euclidean")


class TripletLoss(TripletCriterion):
    """The positive nearer than the negative by a margin.

    mean of [|a-p|^2 - |a-n|^2 + margin]+ over mined triplets. The paper's code and FaceNet agree,
    so `paper` and `textbook` are the same; `euclidean` is the common variant with unsquared
    distances.
    """

    def __init__(self, miner: Miner, margin: float = 0.2, form: str = "paper"):
        super().__init__(miner)
        self.margin, self.form = margin, one_of("form", form, FORMS)

    def triplet_loss(self, rows: TripletRows) -> torch.Tensor:
        anchors, positives, negatives, _ = rows
        if self.form == "euclidean":
            gap = row_distances(anchors, positives) - row_distances(anchors, negatives)
        else:
            gap = (anchors - positives).square().sum(-1) - (anchors - negatives).square().sum(-1)
        return rows.mean(relu(gap + self.margin))
