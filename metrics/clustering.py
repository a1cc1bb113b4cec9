"""Agreement of k-means clusters with the classes; the number of clusters is the number of classes of the split."""

import torch

from metrics.retrieval import EmbeddedSplit


def nmi(split: EmbeddedSplit, space: str) -> float:
    """Normalised mutual information of k-means clusters and classes, 2 I / (H(classes) + H(clusters)).

    A class with a single image counts like any other.
    """
    from sklearn.metrics import (
        normalized_mutual_info_score,
    )  # here, because scikit-learn takes a second to load

    return float(normalized_mutual_info_score(*_partitions(split, space)))


def ami(split: EmbeddedSplit, space: str) -> float:
    """Mutual information adjusted for chance, (I - E[I]) / ((H(classes) + H(clusters)) / 2 - E[I]): about 0 for random clusters.

    A class with a single image counts like any other. NMI grows with the number of clusters; this
    does not.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(*_partitions(split, space)))


def pair_f1(split: EmbeddedSplit, space: str) -> float:
    """F1 over pairs of images: 2 TP / (pairs of one class + pairs of one cluster), 0 where there is no such pair.

    A class with a single image has no pair of its own and counts only in the clusters.
    """
    labels, clusters = split.labels.long(), split.clusters[space].long()
    joint = (labels * (clusters.max() + 1) + clusters).unique(return_counts=True)[1]
    same_class, same_cluster = labels.bincount(), clusters.bincount()
    denominator = _pairs(same_class) + _pairs(same_cluster)
    return (2 * _pairs(joint) / denominator).item() if denominator > 0 else 0.0


def _partitions(split: EmbeddedSplit, space: str):
    return split.labels.cpu().numpy(), split.clusters[space].cpu().numpy()


def _pairs(sizes: torch.Tensor) -> torch.Tensor:
    sizes = sizes.double()
    return (sizes * (sizes - 1) / 2).sum()
