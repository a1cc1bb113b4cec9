"""Margin loss with distance-weighted triplets (Wu et al., ICCV 2017, eq. 5)."""

import torch
from torch import nn
from torch.nn.functional import relu

from criteria.base import AnchoredCriterion, MinedCriterion
from utilities.choices import one_of
from utilities.types import Miner, ModelOutput

FORMS = ("paper", "textbook")


class MarginLoss(MinedCriterion, AnchoredCriterion):
    """Positives nearer than beta - margin, negatives farther than beta + margin.

    Each class has a beta, that of the anchor counts. Over mined triplets: sum of [d_ap - beta +
    margin]+ + [beta - d_an + margin]+ and nu beta, divided by the number of triplets with an active
    term (`paper`) or of active pairs (`textbook`).

    Args:
        n_classes: number of training classes, one beta each. miner: chooses the triplets.
        beta: initial value. beta_lr: its own learning rate. beta_constant: one fixed beta for all
            classes.
        nu: weight of the sum of the anchors' betas; the paper's code names it but cannot run with
            it.
    """

    NEEDS = ("n_classes", "miner")
    BY_CLASS = "beta"

    def __init__(
        self,
        n_classes: int,
        miner: Miner,
        margin: float = 0.2,
        beta: float = 1.2,
        beta_lr: float = 0.0005,
        nu: float = 0,
        beta_constant: bool = False,
        form: str = "paper",
    ):
        super().__init__(miner)
        self.margin, self.beta_lr, self.nu, self.form = (
            margin,
            beta_lr,
            nu,
            one_of("form", form, FORMS),
        )
        self.beta: float | nn.Parameter = float(beta)
        if not beta_constant:
            self.beta = nn.Parameter(torch.full((n_classes,), float(beta)))

    def anchored_loss(
        self, output: ModelOutput, labels: torch.Tensor, anchors: int
    ) -> torch.Tensor:
        embeddings = output.embeddings
        triplets = self.mined(embeddings, labels, anchors)
        rows, positives, negatives = embeddings[triplets.rows].unbind(1)  # [T, D] each
        if isinstance(self.beta, torch.Tensor):
            beta = self.beta[labels[triplets.rows[:, 0]]]
        else:
            beta = rows.new_full((len(rows),), self.beta)
        positive_term = triplets.kept(relu(_distance(rows, positives) - beta + self.margin))
        negative_term = triplets.kept(relu(beta - _distance(rows, negatives) + self.margin))
        active = torch.stack([positive_term > 0, negative_term > 0])
        count = active.any(0).sum() if self.form == "paper" else active.sum()
        total = positive_term.sum() + negative_term.sum() + self.nu * triplets.kept(beta).sum()
        return total / count.clamp(min=1)

    def parameter_groups(self, base_lr: float) -> list[dict]:
        if not isinstance(self.beta, nn.Parameter):
            return []
        return [{"params": [self.beta], "lr": self.beta_lr}]


def _distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    # The constant keeps the gradient finite at distance 0.
    return ((first - second).square().sum(-1) + 1e-8).sqrt()
