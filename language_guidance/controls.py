"""Controls of guidance: what is left of its effect when the texts are wrong, or none.

A control changes the texts and nothing else: batches and initial weights stay those of the run
that it belongs to, because its randomness has a generator of its own.
"""

import torch

from language_guidance.similarities import BankSimilarities, Source, Unrelated
from language_guidance.text_bank import TextBank

WITHOUT_TEXTS = ("random", "onehot")
CONTROLS = ("none", "shuffle", *WITHOUT_TEXTS)
DIM = 384  # of random vectors: of the order of language models', where cosines are about 0.05


def shuffled_classes(classes: int, seed: int) -> torch.Tensor:
    """[C] long: the class whose texts each class gets.

    A single random cycle, so that no class keeps its own. Raises ValueError for fewer than two.
    """
    if classes < 2:
        raise ValueError("texts can be shuffled between two classes or more")
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    return torch.empty_like(order).index_copy_(0, order, order.roll(-1))


def shuffle(bank: TextBank, donors: torch.Tensor, labels: torch.Tensor) -> TextBank:
    """The bank with the texts of class `donors[c]` [C] at class c.

    Where images have texts of their own, those of a class get the texts of the other class's
    images in their order, from the first again where there are fewer.

    Args:
        labels: [N] long, of the images.
    """
    rows = _images_of(donors, labels) if bank.by_image else donors
    shares = None if bank.shares is None else bank.shares[rows]
    return bank._replace(assignment=bank.assignment[rows], shares=shares)


def unrelated(control: str, classes: int, seed: int) -> Source:
    """The source of `random`, a unit vector for each class, or of `onehot`."""
    if control == "onehot":
        return Unrelated()
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(classes, DIM, generator=generator)
    return BankSimilarities(TextBank(vectors, torch.arange(classes)[:, None]))


def _images_of(donors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[N] long: for each image one of the class that gives its texts."""
    order = labels.argsort(stable=True)
    sizes = labels.bincount(minlength=len(donors))
    starts = sizes.cumsum(0) - sizes
    places = torch.empty_like(order)  # of each image within its class
    places[order] = torch.arange(len(labels)) - starts[labels[order]]
    giving = donors[labels]
    return order[starts[giving] + places % sizes[giving]]
