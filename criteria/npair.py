"""N-pair loss (Sohn, NeurIPS 2016, eqs. 4 and 7)."""

import torch
from torch.nn.functional import softplus

from criteria.base import MinedCriterion
from utilities.choices import one_of
from utilities.functional import masked_logsumexp, masked_mean
from utilities.types import Miner, ModelOutput, TupleMiner, Tuples

FORMS = ("paper", "textbook", "textbook_mc")


class NPairLoss(MinedCriterion):
    """One positive of each anchor against all its negatives at once, on inner products.

    mean over anchors of log(1 + sum_n exp(x_a.x_n - x_a.x_p)) + l2 * regulariser. The regulariser
    is the mean norm of the batch (`paper`), its mean squared norm (`textbook`), or the mean squared
    norm of the anchors and positives in use (`textbook_mc`: Sohn's N-pair-mc; give the npair miner
    one pair per class with `--miner_npair_form mc`).

    Args:
        miner: gives each anchor one positive and any number of negatives.
        l2: weight of the regulariser. scale: factor on the embeddings in the paper's form, whose
            code has 0.25 for BN-Inception.
    """

    MINERS = ("npair",)

    def __init__(self, miner: Miner, l2: float = 0.005, scale: float = 1, form: str = "paper"):
        super().__init__(miner)
        self.l2, self.scale, self.form = l2, scale, one_of("form", form, FORMS)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = output.embeddings * self.scale if self.form == "paper" else output.embeddings
        chosen = tuples(self.miner, output.embeddings.detach(), labels)
        loss = npair_term(embeddings, chosen)
        return loss + self.l2 * self.regulariser(embeddings, chosen) if self.l2 else loss

    def regulariser(self, embeddings: torch.Tensor, chosen: Tuples) -> torch.Tensor:
        if self.form == "paper":
            return torch.linalg.vector_norm(embeddings, dim=1).mean()
        if self.form == "textbook":
            return embeddings.square().sum(1).mean()
        of_anchors = embeddings[chosen.anchors].square().sum(1)
        of_positives = embeddings[chosen.positives].square().sum(1)
        return masked_mean(of_anchors + of_positives, chosen.negatives.any(1)) / 2


def tuples(miner: Miner, embeddings: torch.Tensor, labels: torch.Tensor) -> Tuples:
    """The miner's choice, from its triplets if it does not give it directly."""
    if isinstance(miner, TupleMiner):
        return miner.tuples(labels)
    anchors, positives, negatives = miner(embeddings, labels).unbind(1)
    everybody = torch.arange(len(labels), device=labels.device)
    positive_of = torch.zeros_like(labels)
    positive_of[anchors] = positives
    is_negative = torch.zeros(len(labels), len(labels), dtype=torch.bool, device=labels.device)
    is_negative[anchors, negatives] = True
    return Tuples(everybody, positive_of, everybody, is_negative)


def npair_term(embeddings: torch.Tensor, chosen: Tuples) -> torch.Tensor:
    """mean over anchors of log(1 + sum_n exp(x_a.x_n - x_a.x_p))."""
    anchors = embeddings[chosen.anchors]
    return tuple_term(
        anchors @ embeddings[chosen.candidates].T,
        (anchors * embeddings[chosen.positives]).sum(1),
        chosen.negatives,
    )


def tuple_term(
    to_candidates: torch.Tensor, to_positive: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    """mean over rows with a negative of log(1 + sum_n exp(to_candidates - to_positive)).

    Args:
        to_candidates: [A, N]. to_positive: [A]. negatives: bool [A, N].
    """
    gap = masked_logsumexp(to_candidates, negatives, 1) - to_positive
    return masked_mean(softplus(gap, threshold=50), negatives.any(1))
