"""Simultaneous similarity-based self-distillation, S2SD (Roth et al., ICML 2021, eqs. 2-5)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import normalize

from criteria.base import CompositeCriterion, Criterion
from utilities.functional import ragged_is_cheap, rowwise_kl
from utilities.types import ModelOutput


class S2SDLoss(CompositeCriterion):
    """An objective whose embedding also learns from wider embeddings that are trained beside it.

    It learns their similarities. Branches Linear-ReLU-Linear on the pooled features, one per target
    dimension, all on unit rows: (source(x) + mean of target(branch)) / 2 + w * mean of KL(branch ||
    x) + feat_w * KL(features || x), where KL(teacher || student) is T^2 times the batch mean of the
    divergences of the similarity rows at temperature T, the teacher detached. The features teach
    from iteration feat_distill_delay on.

    Args:
        feature_dim: F of the pooled features. source: objective of the embedding. target: one
            objective per branch.
        w: 0, as in the paper's published commands, distills from the features only. pool_aggr:
            branches and features see average plus max pooling of the feature map.
    """

    NEEDS = ("feature_dim", "source", "target")

    iterations: torch.Tensor  # [] long; in the checkpoint, because the delay counts it

    def __init__(
        self,
        feature_dim: int,
        source: Criterion,
        target: Sequence[Criterion],
        T: float = 1,
        w: float = 0,
        pool_aggr: bool = False,
        target_dims: Sequence[int] = (1024, 1536, 2048),
        feat_distill: bool = False,
        feat_w: float = 50,
        feat_distill_delay: int = 1000,
    ):
        super().__init__(source, target)
        self.target_nets = nn.ModuleList(
            nn.Sequential(nn.Linear(feature_dim, dim), nn.ReLU(), nn.Linear(dim, dim))
            for dim in target_dims
        )
        self.T, self.w, self.pool_aggr = T, w, pool_aggr
        self.feat_distill, self.feat_w = feat_distill, feat_w
        self.feat_distill_delay = feat_distill_delay
        self.register_buffer("iterations", torch.zeros((), dtype=torch.long))

    def reads(self) -> set[str]:
        return super().reads() | {"feature_map" if self.pool_aggr else "features"}

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        student = normalize(output.embeddings, dim=1)
        features = self.pooled(output)
        branches = [normalize(branch(features), dim=1) for branch in self.target_nets]
        source_loss = self.source_loss(output, student, labels)
        total = (source_loss + self.target_loss(output, branches, labels)) / 2
        if self.w:
            divergences = [self.distillation(student, branch) for branch in branches]
            total = total + self.w * torch.stack(divergences).mean()
        is_time = self.iterations >= self.feat_distill_delay
        # Asking a device whether it is time would make the step wait: there the term is weighed.
        if self.feat_distill and (not ragged_is_cheap(is_time) or is_time):
            divergence = self.feat_w * self.distillation(student, normalize(features, dim=1))
            total = total + divergence * is_time
        self.iterations += 1
        return total

    def pooled(self, output: ModelOutput) -> torch.Tensor:
        """What branches and features see, [B, F]."""
        if not self.pool_aggr:
            return output.features
        return output.feature_map.mean((2, 3)) + output.feature_map.amax((2, 3))

    def distillation(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """T^2 times the batch mean of KL(teacher rows || student rows)."""
        teacher = teacher.detach()
        divergences = rowwise_kl(teacher @ teacher.T / self.T, student @ student.T / self.T)
        return divergences.mean() * self.T**2

    def parameter_groups(self, base_lr: float) -> list[dict]:
        return [
            {"params": list(self.target_nets.parameters()), "lr": base_lr},
            *super().parameter_groups(base_lr),
        ]
