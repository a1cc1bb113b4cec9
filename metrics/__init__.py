"""Metrics of a search, of clusters and of the space's geometry.

Pure functions, one file per family. A metric of a search gives a value for each query of a
`Retrieval` (NaN: the query is skipped) and is their mean, so that searches of any size are read in
blocks. The others are numbers of an `EmbeddedSplit`.
"""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from metrics import average_precision, clustering, distances, precision, recall, semantics, spectrum
from metrics.retrieval import (
    ALPHA_QE,
    AQE,
    COSINE,
    EUCLIDEAN,
    RERANKED,
    EmbeddedSplit,
    FirstNeighbours,
    Retrieval,
)

__all__ = [
    "ALL",
    "ALPHA_QE",
    "AQE",
    "COSINE",
    "EUCLIDEAN",
    "RERANKED",
    "UP_TO_RELEVANT",
    "EmbeddedSplit",
    "FirstNeighbours",
    "Metric",
    "Retrieval",
    "parse",
    "per_query_mean",
]

# Depths that the split decides: its largest number of relevant images, its whole gallery.
UP_TO_RELEVANT, ALL = -1, math.inf


class Metric(NamedTuple):
    """A metric and what it asks of an evaluation.

    The evaluation computes each thing once, as far as any metric asks. In the registry, K in the
    name stands for the depth and M for the mode of `compute`; a parsed metric has both bound.

    Attributes:
        compute: a `Retrieval` -> the value [Q] of each query, or an `EmbeddedSplit` -> a number.
        depth: ranks that are looked at: a number, UP_TO_RELEVANT or ALL; 0: not a metric of a
            search.
    """

    name: str
    compute: Callable[..., torch.Tensor] | Callable[..., float]
    space: str = EUCLIDEAN  # in which neighbours are searched or clusters made
    depth: float = 0
    superclass: bool = False  # relevant are the images of the query's super-class, not of its class
    clusters: bool = False  # reads k-means clusters
    texts: bool = False  # reads the text similarities of the classes
    first: bool = False  # reads of which class the nearest neighbour of each query is
    evaltype: str | None = None  # the one kind of output that it belongs to, None for any

    @property
    def family(self) -> str:
        """`e_recall` of `e_recall@4`: metrics of a family share a table."""
        return self.name.split("@")[0]


# What is measured after query expansion and re-ranking, too.
REFINED = (
    Metric("recall@K", recall.recall),
    Metric("mAP@R", average_precision.map_at_r, depth=UP_TO_RELEVANT),
    Metric("mAP_1000", average_precision.map_1000, depth=average_precision.LIMIT),
    Metric("mAP", average_precision.mean_average_precision, depth=ALL),
)
REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("e_recall@K", recall.recall),
        Metric("c_recall@K", recall.recall, COSINE),
        Metric("superclass_recall@K", recall.recall, superclass=True),
        Metric("precision@K", precision.precision),
        Metric("c_precision@K", precision.precision, COSINE),
        Metric("r_precision", precision.r_precision, depth=UP_TO_RELEVANT),
        Metric("c_r_precision", precision.r_precision, COSINE, UP_TO_RELEVANT),
        Metric("mAP@R", average_precision.map_at_r, depth=UP_TO_RELEVANT),
        Metric("c_mAP@R", average_precision.map_at_r, COSINE, UP_TO_RELEVANT),
        Metric("mAP_1000", average_precision.map_1000, depth=average_precision.LIMIT),
        Metric("c_mAP_1000", average_precision.map_1000, COSINE, average_precision.LIMIT),
        Metric("mAP_lim", average_precision.map_lim, depth=average_precision.LIMIT),
        Metric("c_mAP_lim", average_precision.map_lim, COSINE, average_precision.LIMIT),
        Metric("mAP", average_precision.mean_average_precision, depth=ALL),
        Metric("c_mAP", average_precision.mean_average_precision, COSINE, ALL),
        Metric("nmi", clustering.nmi, clusters=True),
        Metric("c_nmi", clustering.nmi, COSINE, clusters=True),
        Metric("ami", clustering.ami, clusters=True),
        Metric("c_ami", clustering.ami, COSINE, clusters=True),
        Metric("f1", clustering.pair_f1, clusters=True),
        Metric("c_f1", clustering.pair_f1, COSINE, clusters=True),
        Metric("dists@intra", distances.intra),
        Metric("dists@inter", distances.inter),
        Metric("dists@intra_over_inter", distances.intra_over_inter),
        Metric("rho_spectrum@M@embeds", spectrum.rho_spectrum, evaltype="embeds"),
        Metric("rho_spectrum@M@avg_features", spectrum.rho_spectrum, evaltype="avg_features"),
        Metric("semantic_consistency", semantics.semantic_consistency, texts=True),
        Metric("mistake_severity", semantics.mistake_severity, texts=True, first=True),
        Metric("c_mistake_severity", semantics.mistake_severity, COSINE, texts=True, first=True),
        Metric(
            "superclass_mistake_severity",
            semantics.superclass_mistake_severity,
            superclass=True,
            first=True,
        ),
        *(
            metric._replace(name=f"{space}_{metric.name}", space=space)
            for space in (AQE, ALPHA_QE, RERANKED)
            for metric in REFINED
        ),
    )
}


def parse(name: str) -> Metric:
    """The metric called `name`, e.g. `e_recall@4`.

    Raises:
        ValueError: an unknown name; it lists the known ones.
    """
    for pattern, metric in REGISTRY.items():
        match = re.fullmatch(_expression(pattern), name)
        if match is None:
            continue
        numbers = {argument: int(value) for argument, value in match.groupdict().items()}
        depth = numbers.get("k", metric.depth)
        compute = partial(metric.compute, **numbers)
        if metric.clusters or metric.first:
            compute = partial(compute, space=metric.space)
        return metric._replace(name=name, compute=compute, depth=depth)
    raise ValueError(f"unknown metric {name!r}; known are {', '.join(REGISTRY)}")


def per_query_mean(values: torch.Tensor) -> float:
    """The metric from its values [Q]: the mean over queries not skipped, 0 if all are."""
    counted = values[~values.isnan()]
    return counted.double().mean().item() if len(counted) else 0.0


def _expression(pattern: str) -> str:
    """The regular expression of the names that a name of the registry stands for."""
    expression = re.escape(pattern)
    expression = expression.replace("@K", r"@(?P<k>[1-9]\d{0,8})")
    return expression.replace("@M", r"@(?P<mode>-?[1-9]\d{0,8})")
