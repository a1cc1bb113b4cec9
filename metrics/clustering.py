"""Agreement of k-means clusters with the classes.

The number of clusters is the number of classes of the split.
"""

import numpy as np
import torch

from metrics.retrieval import EmbeddedSplit


def nmi(split: EmbeddedSplit, space: str) -> float:
    """Normalised mutual information of k-means clusters and classes.

    2 I / (H(classes) + H(clusters)). A class with a single image counts like any other.
    """
    # Here, because scikit-learn takes a second to load.
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(*_partitions(split, space)))


def ami(split: EmbeddedSplit, space: str) -> float:
    """Mutual information of k-means clusters and classes, adjusted for chance.

    (I - E[I]) / ((H(classes) + H(clusters)) / 2 - E[I]): about 0 for random clusters. A class with
    a single image counts like any other. NMI grows with the number of clusters; this does not.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(*_partitions(split, space)))


def pair_f1(split: EmbeddedSplit, space: str) -> float:
    """F1 over pairs of images in one class and in one cluster.

    2 TP / (pairs of one class + pairs of one cluster), 0 where there is no such pair. A class with
    a single image has no pair of its own and counts only in the clusters.
    """
    labels, clusters = split.labels.long(), split.clusters[space].long()
    _, joint_sizes = (labels * (clusters.max() + 1) + clusters).unique(return_counts=True)
    class_sizes, cluster_sizes = labels.bincount(), clusters.bincount()
    denominator = _pairs(class_sizes) + _pairs(cluster_sizes)
    return (2 * _pairs(joint_sizes) / denominator).item() if denominator > 0 else 0.0


def _partitions(split: EmbeddedSplit, space: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and cluster assignments [N]."""
    return split.labels.cpu().numpy(), split.clusters[space].cpu().numpy()


def _pairs(sizes: torch.Tensor) -> torch.Tensor:
    """How many pairs lie within groups of these sizes [G]: a number, float64."""
    sizes = sizes.double()
    return (sizes * (sizes - 1) / 2).sum()
