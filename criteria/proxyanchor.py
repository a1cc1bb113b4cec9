"""Proxy-Anchor loss (Kim et al., CVPR 2020, eq. 4)."""

import torch

from criteria.base import ProxyCriterion
from utilities.functional import log1p_sum_exp, masked_mean


class ProxyAnchorLoss(ProxyCriterion):
    """Each proxy is an anchor that pulls the samples of its class and pushes all others.

    mean over the proxies with samples of log(1 + sum_+ exp(-alpha (s - margin)))
    + mean over all proxies of log(1 + sum_- exp(alpha (s + margin))), s the cosine similarity.

    Args:
        n_classes, embed_dim: shape of the proxies. lrmulti: their learning rate as a multiple of
            the trunk's.
    """

    def __init__(
        self,
        n_classes: int,
        embed_dim: int,
        lrmulti: float = 100,
        alpha: float = 32,
        margin: float = 0.1,
    ):
        super().__init__(n_classes, embed_dim, lrmulti)
        self.alpha, self.margin = alpha, margin

    def proxy_loss(self, similarities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        is_own = self.own_proxies(similarities, labels)
        positive_term = log1p_sum_exp(-self.alpha * (similarities - self.margin), is_own, 0)
        negative_term = log1p_sum_exp(self.alpha * (similarities + self.margin), ~is_own, 0)
        return masked_mean(positive_term, is_own.any(0)) + negative_term.mean()
