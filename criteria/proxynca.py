"""ProxyNCA and ProxyNCA++.

Movshovitz-Attias et al., ICCV 2017, eq. 4; Teh et al., ECCV 2020, eq. 8.
"""

import torch
from torch.nn.functional import cross_entropy

from criteria.base import ProxyCriterion
from utilities.choices import one_of

FORMS = ("textbook", "plusplus")


class ProxyNCALoss(ProxyCriterion):
    """Each sample near the proxy of its class and far from all others.

    d is the squared distance of unit vectors. `textbook`: -log(exp(-d_y) / sum over the *other*
    proxies of exp(-d_c)). `plusplus`: the softmax over all proxies of -d_c / temperature.

    Args:
        n_classes, embed_dim: shape of the proxies. lrmulti: their learning rate as a multiple of
            the trunk's.
    """

    def __init__(
        self,
        n_classes: int,
        embed_dim: int,
        lrmulti: float = 50,
        temperature: float = 1 / 9,
        form: str = "textbook",
    ):
        super().__init__(n_classes, embed_dim, lrmulti)
        self.temperature, self.form = temperature, one_of("form", form, FORMS)

    def proxy_loss(self, similarities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.form == "textbook":
            return proxy_nca(similarities, labels)
        return cross_entropy((2 * similarities - 2) / self.temperature, labels)


def proxy_nca(similarities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over samples of d_y + log sum_{c != y} exp(-d_c), with d = 2 - 2 similarity, [B, C].

    0 where there is one class.
    """
    if similarities.shape[1] == 1:
        return (similarities * 0).sum()
    negated, target = 2 * similarities - 2, labels[:, None]
    other_proxies = negated.scatter(1, target, -torch.inf)
    return (other_proxies.logsumexp(1) - negated.gather(1, target).squeeze(1)).mean()
