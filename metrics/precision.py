"""Precision at a fixed rank and at the number of relevant images."""

import torch

from metrics.retrieval import Retrieval


def precision(retrieval: Retrieval, k: int) -> torch.Tensor:
    """Share of relevant images among the k nearest: (1/k) sum_{r <= k} relevant(r).

    The divisor is k also where fewer images are relevant or in the gallery; the only image of a
    class scores 0. open-metric-learning divides by min(k, n_c - 1) instead.
    """
    return retrieval.count_within(k) / k


def r_precision(retrieval: Retrieval) -> torch.Tensor:
    """Share of relevant images among the R nearest, R the number of the query's relevant images.

    R = n_c - 1 (Musgrave et al. 2020). The only image of a class has no R and is skipped.
    """
    relevant_found = retrieval.count_within(retrieval.relevant[retrieval.queries])
    return relevant_found / retrieval.relevant  # 0 / 0 = NaN: skipped
