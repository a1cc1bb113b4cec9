"""Cosine distances within and between classes.

Source: Roth et al., "Revisiting Training Strategies", ICML 2020, section 3.
"""

from torch.nn.functional import normalize

from metrics.retrieval import EmbeddedSplit


def intra(split: EmbeddedSplit) -> float:
    """Mean over classes of the mean cosine distance between two different images of the class.

    A class with a single image has no such pair and is skipped; 0 if all are such. The paper's code
    meant to give it the largest distance of any class, and by an indexing fault gives another.
    """
    counts = split.class_sizes
    # The sum of the products of all pairs is |sum|^2 less the squares, all 1.
    pair_products = split.class_sums(unit=True).square().sum(1) - counts
    has_pairs = counts > 1
    if not has_pairs.any():
        return 0.0
    mean_products = pair_products / (counts * (counts - 1))
    return (1 - mean_products[has_pairs]).mean().item()


def inter(split: EmbeddedSplit) -> float:
    """Mean cosine distance between the means of two different classes.

    The means are taken of the embeddings as they are. A class with a single image is its own mean;
    0 for a single class.
    """
    means = normalize(split.centroids, dim=-1)
    count = len(means)
    if count < 2:
        return 0.0
    pair_products = means.sum(0).square().sum() - means.square().sum()
    return (1 - pair_products / (count * (count - 1))).item()


def intra_over_inter(split: EmbeddedSplit) -> float:
    """Ratio of the distances within and between classes: small where classes are compact.

    0 for a single class. A class with a single image counts in the divisor only.
    """
    between = inter(split)
    return intra(split) / between if between else 0.0
