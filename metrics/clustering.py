"""Agreement of k-means clusters with the classes."""
import torch
from sklearn.metrics import normalized_mutual_info_score

from metrics.retrieval import Retrieval


def nmi(retrieval: Retrieval) -> float:
    """Normalised mutual information, 2 I / (H(classes) + H(clusters))."""
    return float(normalized_mutual_info_score(retrieval.labels.cpu().numpy(), retrieval.clusters.cpu().numpy()))


def pair_f1(retrieval: Retrieval) -> float:
    """F1 over pairs of images: 2 TP / (pairs of one class + pairs of one cluster), 0 where there is no such pair."""
    labels, clusters = retrieval.labels.long(), retrieval.clusters.long()
    joint = (labels * (clusters.max() + 1) + clusters).unique(return_counts=True)[1]
    same_class, same_cluster = labels.bincount(), clusters.bincount()
    denominator = _pairs(same_class) + _pairs(same_cluster)
    return (2 * _pairs(joint) / denominator).item() if denominator > 0 else 0.0


def _pairs(sizes: torch.Tensor) -> torch.Tensor:
    sizes = sizes.double()
    return (sizes * (sizes - 1) / 2).sum()
