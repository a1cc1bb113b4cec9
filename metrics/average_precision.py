"""Mean average precision in the definitions in use.

precision(r) is the share of relevant images among the r nearest; n_c counts the images of the
query's class with the query, so that n_c - 1 can be found (with a gallery of its own: the relevant
images there are n_c - 1). Each function gives the average precision of every query; their mean is
the metric.
"""

import torch

from metrics.retrieval import Retrieval

LIMIT = 1000  # ranks that the paper's code looks at


def map_1000(retrieval: Retrieval) -> torch.Tensor:
    """The paper's mAP@1000: (1 / n_c) sum_{r <= 1000} precision(r) relevant(r).

    The divisor counts the query, so a perfect space scores (n_c - 1) / n_c and the only image of a
    class 0.
    """
    return retrieval.precision_within(LIMIT) / (retrieval.relevant + 1)


def map_lim(retrieval: Retrieval) -> torch.Tensor:
    """mAP@1000 with the divisor that a perfect space reaches.

    (1 / min(1000, n_c - 1)) sum_{r <= 1000} precision(r) relevant(r). The only image of a class is
    skipped.
    """
    return retrieval.precision_within(LIMIT) / retrieval.relevant.clamp(max=LIMIT)


def map_at_r(retrieval: Retrieval) -> torch.Tensor:
    """mAP@R: (1 / R) sum_{r <= R} precision(r) relevant(r), R = n_c - 1 (Musgrave et al. 2020).

    The only image of a class is skipped.
    """
    return retrieval.precision_within(retrieval.relevant[retrieval.queries]) / retrieval.relevant


def mean_average_precision(retrieval: Retrieval) -> torch.Tensor:
    """mAP over the whole gallery: (1 / (n_c - 1)) sum_r precision(r) relevant(r).

    This is the one of information retrieval. The only image of a class is skipped.
    """
    return retrieval.precision_within(torch.iinfo(torch.long).max) / retrieval.relevant
