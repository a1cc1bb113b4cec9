"""N-pair loss (Sohn, NeurIPS 2016, eqs. 4 and 7)."""
import torch

from criteria.base import Criterion
from utilities.functional import log1p_sum_exp
from utilities.types import ModelOutput


class NPairLoss(Criterion):
    """One positive of each anchor against all its negatives at once, on inner products.

    mean over anchors of log(1 + sum_n exp(x_a.x_n - x_a.x_p)) + l2 * regulariser. The regulariser is the mean norm of
    the batch (`paper`), its mean squared norm (`textbook`), or the mean squared norm of the anchors and positives in
    use (`textbook_mc`: Sohn's N-pair-mc; give the npair miner one pair per class with `--miner_npair_form mc`).

    Args:
        miner: gives each anchor one positive and any number of negatives.
        l2: weight of the regulariser. scale: factor on the embeddings in the paper's form, whose code has 0.25 for BN-Inception.
    """
    NEEDS = ("miner",)
    MINERS = ("npair",)

    def __init__(self, miner, l2: float = 0.005, scale: float = 1, form: str = "paper"):
        super().__init__()
        self.miner, self.l2, self.scale, self.form = miner, l2, scale, form

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = output.embeddings * self.scale if self.form == "paper" else output.embeddings
        positives, negatives = tuples(self.miner(output.embeddings.detach(), labels), len(labels))
        return npair_term(embeddings, positives, negatives) + self.l2 * self.regulariser(embeddings, positives, negatives.any(1))

    def regulariser(self, embeddings: torch.Tensor, positives: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        if self.form == "paper":
            return torch.linalg.vector_norm(embeddings, dim=1).mean()
        squared = embeddings.square().sum(1)
        if self.form == "textbook":
            return squared.mean()
        return ((squared + squared[positives]) * anchors).sum() / (2 * anchors.sum()).clamp(min=1)


def tuples(triplets: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Triplets [T, 3] by anchor: index of the positive [B] (0 where there is none), mask of the negatives [B, B]."""
    anchors, others, negatives = triplets.unbind(1)
    positives = triplets.new_zeros(batch)
    positives[anchors] = others
    mask = torch.zeros(batch, batch, dtype=torch.bool, device=triplets.device)
    mask[anchors, negatives] = True
    return positives, mask


def npair_term(embeddings: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """mean over anchors (rows with a negative) of log(1 + sum_n exp(x_a.x_n - x_a.x_p))."""
    products = embeddings @ embeddings.T
    gaps = products - products.gather(1, positives[:, None])
    return log1p_sum_exp(gaps, negatives, 1).sum() / negatives.any(1).sum().clamp(min=1)
