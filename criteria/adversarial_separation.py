"""Adversarial separation of two embeddings.

Opitz et al., PAMI 2018, section 3.3; Milbich et al., ECCV 2020, eq. 6.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import normalize

from criteria.base import CompositeCriterion, Criterion
from utilities.types import ModelOutput


class AdversarialSeparationLoss(CompositeCriterion):
    """An objective beside auxiliary embeddings that may not know what the main one knows.

    Linear heads on the pooled features give auxiliary embeddings with objectives of their own. A
    regressor Linear-ReLU-Linear predicts the embedding x from each of them, g; both pass a gradient
    reversal, so the regressor learns to predict while the embeddings learn not to be predictable:
    source(x) + mean of target(g) - weight * mean over samples and coordinates of (x *
    regressor(g))^2, on unit rows. The preceding repositories have the last term only, for networks
    with several heads; here the heads are its own.

    Args:
        embed_dim: D. feature_dim: F of the pooled features. source: objective of the embedding.
            target: one per head.
        target_dims: dimension of each head. hidden_dim: of the regressors. lr: learning rate of the
            regressors; the heads have the trunk's.
    """

    NEEDS = ("embed_dim", "feature_dim", "source", "target")
    READS = ("embeddings", "features")

    def __init__(
        self,
        embed_dim: int,
        feature_dim: int,
        source: Criterion,
        target: Sequence[Criterion],
        target_dims: Sequence[int] = (128,),
        weight: float = 1500,
        hidden_dim: int = 512,
        lr: float = 1e-5,
    ):
        super().__init__(source, target)
        self.heads = nn.ModuleList(nn.Linear(feature_dim, dim) for dim in target_dims)
        self.regressors = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, embed_dim))
            for dim in target_dims
        )
        self.weight, self.lr = weight, lr

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = normalize(output.embeddings, dim=1)
        auxiliary = [normalize(head(output.features), dim=1) for head in self.heads]
        correlations = [
            self.correlation(embeddings, rows, regressor)
            for rows, regressor in zip(auxiliary, self.regressors)
        ]
        return (
            self.source_loss(output, embeddings, labels)
            + self.target_loss(output, auxiliary, labels)
            - self.weight * torch.stack(correlations).sum()
        )

    @staticmethod
    def correlation(
        embeddings: torch.Tensor, auxiliary: torch.Tensor, regressor: nn.Module
    ) -> torch.Tensor:
        predicted = normalize(regressor(_ReversedGradient.apply(auxiliary)), dim=1)
        return (_ReversedGradient.apply(embeddings) * predicted).square().mean()

    def parameter_groups(self, base_lr: float) -> list[dict]:
        return [
            {"params": list(self.regressors.parameters()), "lr": self.lr},
            {"params": list(self.heads.parameters()), "lr": base_lr},
            *super().parameter_groups(base_lr),
        ]


class _ReversedGradient(torch.autograd.Function):
    """Identity forward, the negated gradient backward."""

    @staticmethod
    def forward(context: FunctionCtx, values: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(context: FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return -gradient
