"""SoftTriple loss (Qian et al., ICCV 2019, eqs. 7, 8 and 10)."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from criteria.base import Criterion
from utilities.functional import safe_sqrt
from utilities.types import ModelOutput


class SoftTripletLoss(Criterion):
    """Normalised softmax with several centres per class, softly assigned and drawn together.

    S_c = sum_k softmax_k(x.w_ck / gamma) x.w_ck on unit rows; cross entropy of scale * (S -
    margin_delta at the target) plus reg_weight times the sum of sqrt(2 - 2 w_cs.w_ct) over the
    pairs s < t of each class, divided by C K (K - 1).

    Args:
        n_classes, embed_dim: shape of the centres. n_centroids: per class. scale: the paper's
            lambda.
        lrmulti: learning rate of the centres as a multiple of the trunk's.
    """

    NEEDS = ("n_classes", "embed_dim")
    BY_CLASS = "centroids"

    def __init__(
        self,
        n_classes: int,
        embed_dim: int,
        n_centroids: int = 2,
        margin_delta: float = 0.01,
        gamma: float = 0.1,
        scale: float = 8,
        reg_weight: float = 0.2,
        lrmulti: float = 1,
    ):
        super().__init__()
        self.n_centroids, self.margin_delta = n_centroids, margin_delta
        self.gamma, self.scale = gamma, scale
        self.reg_weight, self.lrmulti = reg_weight, lrmulti
        directions = torch.randn(n_classes, n_centroids, embed_dim)
        self.centroids = nn.Parameter(normalize(directions, dim=2))

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        centroids = normalize(self.centroids, dim=2)
        # Centres before classes: a softmax over a short last axis is slow.
        rows = centroids.transpose(0, 1).flatten(0, 1)  # [K C, D]
        similarities = normalize(output.embeddings, dim=1) @ rows.T
        similarities = similarities.unflatten(1, (self.n_centroids, -1))  # [B, K, C]
        by_class = ((similarities / self.gamma).softmax(1) * similarities).sum(1)
        margins = by_class.new_full((len(labels), 1), -self.margin_delta)
        with_margin = by_class.scatter_add(1, labels[:, None], margins)
        loss = cross_entropy(self.scale * with_margin, labels)
        return loss + self.reg_weight * self.regulariser(centroids) if self.reg_weight else loss

    def regulariser(self, centroids: torch.Tensor) -> torch.Tensor:
        """Half the mean distance of the centres of a class [C, K, D].

        It draws them together, so that a class uses no more of them than it needs.
        """
        if self.n_centroids == 1:
            return centroids.new_zeros(())
        between = centroids @ centroids.transpose(1, 2)  # [C, K, K]
        rows, columns = torch.triu_indices(
            self.n_centroids, self.n_centroids, 1, device=between.device
        )
        n_ordered_pairs = len(centroids) * self.n_centroids * (self.n_centroids - 1)
        return safe_sqrt(2 - 2 * between[:, rows, columns]).sum() / n_ordered_pairs

    def parameter_groups(self, base_lr: float) -> list[dict]:
        return [{"params": [self.centroids], "lr": base_lr * self.lrmulti}]
