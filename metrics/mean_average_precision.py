"""Mean average precision over the nearest 1000, in the paper's definition."""
import torch

from metrics.retrieval import Retrieval

CHUNK = 4096  # queries at a time: precision matrices of [N, 1000] would not fit for large N


def mean_average_precision(retrieval: Retrieval, space: str, k: int) -> float:
    """mean over queries of (1 / n_c) sum_{r <= min(k, N - 1)} precision(r) relevant(r).

    The divisor n_c counts all images of the query's class, the query too, as in the paper's code: a perfect space
    scores (n_c - 1) / n_c. The only image of a class scores 0.
    """
    count = len(retrieval.labels)
    class_sizes = retrieval.labels.bincount().double()[retrieval.labels]
    total = torch.zeros((), dtype=torch.float64, device=retrieval.labels.device)
    for start in range(0, count, CHUNK):
        hits = retrieval.hits(space, k, start, start + CHUNK).double()
        ranks = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)
        precision = hits.cumsum(1) / ranks
        total += ((precision * hits).sum(1) / class_sizes[start:start + CHUNK]).sum()
    return (total / count).item()
