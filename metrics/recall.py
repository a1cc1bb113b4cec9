"""Recall@k of deep metric learning."""

import torch

from metrics.retrieval import Retrieval


def recall(retrieval: Retrieval, k: int) -> torch.Tensor:
    """Share of queries with a relevant image among their k nearest.

    Per query 1 if the rank of its first relevant image is at most k, else 0; the only image of a
    class is a miss. In information retrieval this is called hit rate; Musgrave et al. (2020) call
    it precision@1 for k = 1.
    """
    return (retrieval.count_within(k) > 0).double()
