"""Proxy-Anchor loss (Kim et al., CVPR 2020, eq. 4)."""
import torch
from torch.nn.functional import normalize

from criteria.base import Criterion, proxies
from utilities.functional import log1p_sum_exp, masked_mean
from utilities.types import ModelOutput


class ProxyAnchorLoss(Criterion):
    """Each proxy is an anchor that pulls all samples of its class and pushes all others of the batch.

    mean over the proxies with samples of log(1 + sum_+ exp(-alpha (s - margin)))
    + mean over all proxies of log(1 + sum_- exp(alpha (s + margin))), s the cosine similarity.

    Args:
        n_classes, embed_dim: shape of the proxies. lrmulti: their learning rate as a multiple of the trunk's.
    """
    NEEDS = ("n_classes", "embed_dim")

    def __init__(self, n_classes: int, embed_dim: int, lrmulti: float = 100, alpha: float = 32, margin: float = 0.1):
        super().__init__()
        self.lrmulti, self.alpha, self.margin = lrmulti, alpha, margin
        self.proxies = proxies(n_classes, embed_dim)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        similarities = normalize(output.embeddings, dim=1) @ normalize(self.proxies, dim=1).T
        own = torch.zeros_like(similarities, dtype=torch.bool).scatter(1, labels[:, None], True)
        positive_term = log1p_sum_exp(-self.alpha * (similarities - self.margin), own, 0)
        return masked_mean(positive_term, own.any(0)) + log1p_sum_exp(self.alpha * (similarities + self.margin), ~own, 0).mean()

    def parameter_groups(self, base_lr: float) -> list[dict]:
        return [{"params": [self.proxies], "lr": base_lr * self.lrmulti}]
