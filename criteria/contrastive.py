"""Contrastive loss (Hadsell, Chopra, LeCun, CVPR 2006, eq. 4)."""

import torch
from torch.nn.functional import pairwise_distance, relu

from criteria.base import TripletCriterion, TripletRows
from utilities.choices import one_of
from utilities.functional import row_distances
from utilities.types import Miner

FORMS = ("paper", "textbook")


class ContrastiveLoss(TripletCriterion):
    """Positives nearer than one margin, negatives farther than another, each pair on its own.

    mean of [d_ap - pos_margin]+ plus mean of [neg_margin - d_an]+ over mined triplets (`paper`,
    whose Euclidean distance adds 1e-6 to each coordinate); half the squares of both hinges, exact
    distances (`textbook`).
    """

    def __init__(
        self, miner: Miner, pos_margin: float = 0, neg_margin: float = 1, form: str = "paper"
    ):
        super().__init__(miner)
        self.pos_margin, self.neg_margin, self.form = (
            pos_margin,
            neg_margin,
            one_of("form", form, FORMS),
        )

    def triplet_loss(self, rows: TripletRows) -> torch.Tensor:
        distances = row_distances if self.form == "textbook" else pairwise_distance
        too_far = relu(distances(rows.anchors, rows.positives) - self.pos_margin)
        too_near = relu(self.neg_margin - distances(rows.anchors, rows.negatives))
        if self.form == "textbook":
            too_far, too_near = too_far.square() / 2, too_near.square() / 2
        return rows.mean(too_far) + rows.mean(too_near)
