"""Tuples of the N-pair loss (Sohn, NeurIPS 2016, section 3.2)."""

import torch

from batchminer.base import BoundedMiner
from utilities.choices import one_of
from utilities.functional import listed_pairs, pair_masks, ragged_is_cheap
from utilities.types import Triplets, Tuples

FORMS = ("paper", "mc")


class NPairMiner(BoundedMiner):
    """One uniform positive per anchor with all its negatives.

    There is a triplet for each negative. `paper`: every sample with a positive is an anchor, every
    sample of another class its negative. `mc`: one random (anchor, positive) per class, and the
    negatives are the positives of the other classes.
    """

    def __init__(self, form: str = "paper"):
        self.form = one_of("form", form, FORMS)

    def mine_padded(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Triplets:
        chosen = self.tuples(labels)
        rows, columns, real = listed_pairs(chosen.negatives)
        negatives = chosen.candidates[columns]
        triplets = [chosen.anchors[rows], chosen.positives[rows], negatives]
        return Triplets(torch.stack(triplets, dim=1), real)

    @torch.no_grad()
    def tuples(self, labels: torch.Tensor) -> Tuples:
        """The same choice without writing every triplet out."""
        return self.one_pair_per_class(labels) if self.form == "mc" else self.every_anchor(labels)

    def every_anchor(self, labels: torch.Tensor) -> Tuples:
        positives, negatives = pair_masks(labels)
        everybody = torch.arange(len(labels), device=labels.device)
        negatives_of_anchors = negatives & positives.any(1, keepdim=True)
        return Tuples(everybody, self.draw(positives), everybody, negatives_of_anchors)

    def one_pair_per_class(self, labels: torch.Tensor) -> Tuples:
        shuffled = self.permutation(len(labels), labels.device)
        by_class, order = labels[shuffled].sort(stable=True)
        samples = shuffled[order]  # of a class one after the other, in random order
        following = samples.roll(-1)
        # A pair begins where a class does, if the class goes on.
        begins = torch.cat([by_class.new_ones(1).bool(), by_class[1:] != by_class[:-1]])
        begins = begins & (by_class == by_class.roll(-1)) & (samples != following)
        if ragged_is_cheap(labels):
            return _among_themselves(samples[begins], following[begins])
        return _among_everybody(labels, samples, following, begins)


def _among_themselves(anchors: torch.Tensor, positives: torch.Tensor) -> Tuples:
    """Pairs of different classes [A], whose negatives are the positives of the others."""
    others = ~torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    return Tuples(anchors, positives, positives, others)


def _among_everybody(
    labels: torch.Tensor, samples: torch.Tensor, following: torch.Tensor, begins: torch.Tensor
) -> Tuples:
    """The same of all samples [B], some of which have no negatives, whatever begins a pair."""
    nobody = torch.zeros_like(begins)
    is_anchor = nobody.index_put((samples,), begins)
    is_positive = nobody.index_put((following,), begins)
    positive_of = torch.empty_like(samples).index_put((samples,), following)
    everybody = torch.arange(len(labels), device=labels.device)
    _, negatives = pair_masks(labels)
    chosen = negatives & is_anchor[:, None] & is_positive
    return Tuples(everybody, positive_of, everybody, chosen)
