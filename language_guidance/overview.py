"""What guidance reads of classes, for people: how alike they are, and which lie nearest."""

from typing import NamedTuple

import torch

from language_guidance.similarities import Source
from utilities.functional import told_apart

IMAGES = 8  # that stand for a class, at most, where each image has texts of its own
EQUAL = 1e-5  # of the largest similarity: what differs by much less does so by rounding
ROWS = 2000  # whose similarities are compared at once: 16 MB, and a second with several ranks


class Agreement(NamedTuple):
    """How far two encoders tell the same of classes.

    Attributes:
        correlation: Spearman's, of the similarities of all pairs of classes; 0 where a side is
            constant or there are fewer than two pairs.
        common: share of the nearest classes of a class, by one encoder, that are among those by the
            other. by_chance: that share of two encoders that have nothing in common.
        neighbours: how many nearest classes are compared.
    """

    correlation: float
    common: float
    by_chance: float
    neighbours: int


def class_similarities(
    source: Source, labels: torch.Tensor, classes: torch.Tensor, *, by_image: bool
) -> torch.Tensor:
    """[S, S] float32 on the CPU: the similarities of the classes [S] of a split as a source has.

    Args:
        labels: [N] long. by_image: whether images have texts of their own; then the mean over the
            pairs of at most IMAGES of each class, at even steps.
    """
    count = max(1, min(IMAGES, ROWS // len(classes))) if by_image else 1
    of_classes = ((labels == label).nonzero()[:, 0] for label in classes)
    rows = torch.cat([_at_even_steps(rows, count) for rows in of_classes])
    device = next((buffer.device for buffer in source.buffers()), rows.device)
    with torch.inference_mode():
        pairs = source(labels[rows].to(device), rows.to(device)).float().cpu()
    return pairs.view(len(classes), count, len(classes), count).mean((1, 3))


def nearest_classes(similarities: torch.Tensor, count: int) -> torch.Tensor:
    """[S, K] long: the other classes most similar to each, of [S, S]; K is S - 1 at most.

    Of equally similar ones the first come first.
    """
    others = told_apart(similarities.clone().fill_diagonal_(0), EQUAL).fill_diagonal_(-torch.inf)
    ranked = others.argsort(dim=1, descending=True, stable=True)
    return ranked[:, : min(count, len(similarities) - 1)]


def agreement(first: torch.Tensor, second: torch.Tensor, neighbours: int = 5) -> Agreement:
    """Of the similarities [S, S] of the same classes by two encoders.

    Raises ValueError for fewer than two classes.
    """
    classes = len(first)
    if classes < 2 or first.shape != second.shape:
        raise ValueError("expected similarities of the same classes, of two or more")
    neighbours = min(neighbours, classes - 1)
    near = [_are_among(nearest_classes(each, neighbours), classes) for each in (first, second)]
    common = (near[0] & near[1]).sum() / (neighbours * classes)
    is_pair = ~torch.eye(classes, dtype=torch.bool)  # both ways: a given matrix may differ in them
    correlation = _correlation(first[is_pair], second[is_pair])
    return Agreement(correlation, common.item(), neighbours / (classes - 1), neighbours)


def _at_even_steps(rows: torch.Tensor, count: int) -> torch.Tensor:
    """[count] of rows [R], some more than once where they are fewer."""
    return rows[torch.linspace(0, len(rows) - 1, count, dtype=torch.float64).round().long()]


def _are_among(places: torch.Tensor, classes: int) -> torch.Tensor:
    """[S, S] bool, of the places [S, K] that each row names."""
    return torch.zeros(len(places), classes, dtype=torch.bool).scatter_(1, places, True)


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    from scipy.stats import rankdata  # here, because it takes two seconds to load

    told = [told_apart(values, EQUAL).numpy() for values in (first, second)]
    ranks = [torch.from_numpy(rankdata(values)) for values in told]
    centred = [values - values.mean() for values in ranks]
    scale = centred[0].norm() * centred[1].norm()
    return (centred[0] @ centred[1] / scale).item() if scale > 0 else 0.0
