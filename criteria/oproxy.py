"""Proxy objectives of the paper's code.

ProxyAnchor (Kim et al., CVPR 2020) and its per-sample sibling.
"""

import torch
from torch.nn.functional import softplus

from criteria.base import ProxyCriterion
from criteria.proxynca import proxy_nca
from utilities.choices import one_of
from utilities.functional import log1p_sum_exp, masked_mean

FORMS = ("paper", "textbook")
MODES = ("anchor", "nca")


class OProxyLoss(ProxyCriterion):
    """Proxies pull their samples and push all others.

    `anchor` sums over samples, `nca` over proxies. With cosine similarities s. `anchor`: log(1 +
    sum_+ exp(-pos_alpha (s - pos_delta))) of each proxy, averaged over the batch's samples
    (`paper`: a class with K samples counts K times) or over the proxies with samples (`textbook`),
    plus the mean over all proxies of log(1 + sum_- exp(neg_alpha (s - neg_delta))). `nca`: the same
    two sums taken per sample, its positive counted as often as its class is in the batch (`paper`),
    or ProxyNCA, which has no scales (`textbook`).

    Args:
        n_classes, embed_dim: shape of the proxies. lrmulti: their learning rate as a multiple of
            the trunk's.
    """

    def __init__(
        self,
        n_classes: int,
        embed_dim: int,
        mode: str = "anchor",
        lrmulti: float = 2000,
        pos_alpha: float = 32,
        neg_alpha: float = 32,
        pos_delta: float = 0.1,
        neg_delta: float = -0.1,
        form: str = "paper",
    ):
        super().__init__(n_classes, embed_dim, lrmulti)
        self.mode, self.form = one_of("mode", mode, MODES), one_of("form", form, FORMS)
        self.pos_alpha, self.neg_alpha = pos_alpha, neg_alpha
        self.pos_delta, self.neg_delta = pos_delta, neg_delta

    def proxy_loss(self, similarities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.mode == "nca" and self.form == "textbook":
            return proxy_nca(similarities, labels)
        is_own = self.own_proxies(similarities, labels)
        pull = -self.pos_alpha * (similarities - self.pos_delta)
        push = self.neg_alpha * (similarities - self.neg_delta)
        if self.mode == "anchor":
            return self.per_proxy(pull, push, is_own, labels)
        return self.per_sample(pull, push, is_own, labels)

    def per_proxy(
        self, pull: torch.Tensor, push: torch.Tensor, is_own: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        positive_term = log1p_sum_exp(pull, is_own, 0)
        if self.form == "paper":
            positive_mean = positive_term[labels].mean()
        else:
            positive_mean = masked_mean(positive_term, is_own.any(0))
        return positive_mean + log1p_sum_exp(push, ~is_own, 0).mean()

    def per_sample(
        self, pull: torch.Tensor, push: torch.Tensor, is_own: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        class_sizes = is_own.sum(0)[labels].to(pull.dtype)
        own_pull = pull.gather(1, labels[:, None]).squeeze(1)
        positive_term = softplus(own_pull + class_sizes.log(), threshold=50)
        return positive_term.mean() + log1p_sum_exp(push, ~is_own, 1).mean()
