"""Cosine distances within and between classes (Roth et al. 2020, Revisiting Training Strategies, section 3)."""

from torch.nn.functional import normalize

from metrics.retrieval import EmbeddedSplit


def intra(split: EmbeddedSplit) -> float:
    """Mean over classes of the mean cosine distance between two different images of the class.

    A class with a single image has no such pair and is skipped; 0 if all are such. The paper's code
    meant to give it the largest distance of any class, and by an indexing fault gives another.
    """
    counts = split.class_sizes
    pairs = (
        split.class_sums(unit=True).square().sum(1) - counts
    )  # the sum over pairs is |sum|^2 less the squares, all 1
    several = counts > 1
    return (1 - (pairs / (counts * (counts - 1)))[several]).mean().item() if several.any() else 0.0


def inter(split: EmbeddedSplit) -> float:
    """Mean cosine distance between the means of two different classes, the means taken of the embeddings as they are.

    A class with a single image is its own mean; 0 for a single class.
    """
    means = normalize(split.centroids, dim=-1)
    count = len(means)
    if count < 2:
        return 0.0
    return (1 - (means.sum(0).square().sum() - means.square().sum()) / (count * (count - 1))).item()


def intra_over_inter(split: EmbeddedSplit) -> float:
    """Ratio of the two: small where classes are compact beside their distances, 0 for a single class.

    A class with a single image counts in the divisor only.
    """
    between = inter(split)
    return intra(split) / between if between else 0.0
