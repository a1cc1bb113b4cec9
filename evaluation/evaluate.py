"""From embeddings and labels to numbers."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch.nn.functional import normalize

import metrics
from evaluation.clustering import cluster
from evaluation.neighbours import LONGEST
from evaluation.retrieval import Protocol, search
from metrics import COSINE, EmbeddedSplit, Metric, per_query_mean
from utilities import processes
from utilities.runtime import memory_budget

KMEANS_SEED = 1234
DEFAULT_METRICS = ("e_recall@1", "e_recall@2", "e_recall@4", "e_recall@10", "mAP_1000", "mAP@R")


def evaluate_embeddings(
    embeddings: torch.Tensor | np.ndarray,
    labels: torch.Tensor | np.ndarray | Protocol,
    wanted: Sequence[str | Metric] = DEFAULT_METRICS,
    *,
    backend: str = "auto",
    memory: int | None = None,
    text_vectors: torch.Tensor | None = None,
) -> dict[str, float]:
    """Metric name -> value, for embeddings [N, D] of any floating type, of torch or numpy.

    Processes of a run divide the search; the first computes what is of the whole split.

    Args:
        labels: [N] long, or a `Protocol` that also says who searches where; metrics of clusters and
            of geometry are of the whole split.
        wanted: metrics, or their names as in `--evaluation_metrics`.
        backend: what searches and clusters, as in `--evaluation_backend`.
        memory: bytes that the search may use beside the embeddings; None takes half of what is free
            on their device.
        text_vectors: [C, E] unit vectors of the classes, for metrics that read them.
    Raises:
        ValueError: shapes that do not fit together, no row, embeddings that are not `comparable`,
            or labels that are no whole numbers from 0 on.
    """
    embeddings = torch.as_tensor(embeddings).detach().float()
    if memory is None:
        memory = memory_budget("auto", embeddings.device)
    protocol = labels if isinstance(labels, Protocol) else Protocol(_whole(labels))
    protocol = protocol.to(embeddings.device)
    _require_rows(embeddings, protocol.labels)
    chosen = [metrics.parse(metric) if isinstance(metric, str) else metric for metric in wanted]
    searched = search(embeddings, protocol, chosen, memory=memory, use_faiss=backend == "faiss")
    values = {name: per_query_mean(of_queries) for name, of_queries in searched.values.items()}

    def of_split() -> dict[str, float]:
        split = EmbeddedSplit(
            protocol.labels,
            embeddings,
            _clusters(embeddings, protocol.labels, chosen, backend, memory),
            text_vectors,
            searched.firsts,
            protocol.superclasses_of_classes(),
        )
        measured = [metric for metric in chosen if not metric.depth]
        return {metric.name: float(metric.compute(split)) for metric in measured}

    return values | processes.from_main(of_split)


def comparable(embeddings: torch.Tensor) -> bool:
    """Whether embeddings [N, D] are finite, and so are all distances between them in float32."""
    return bool((embeddings.norm(dim=1) < LONGEST).all())


def _whole(labels: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Labels [N] as long."""
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers, not {labels.dtype}")
    return labels.long()


def _require_rows(embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or embeddings.numel() == 0:
        raise ValueError(
            "expected embeddings [N, D] and labels [N] with at least one row, got "
            f"{tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    if not comparable(embeddings):
        raise ValueError(f"embeddings must be finite, and no longer than {LONGEST:g}")
    if labels.min() < 0:
        raise ValueError(f"labels must be at least 0, not {int(labels.min())}")


def by_family(
    evaltype: str, chosen: Iterable[Metric], values: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Values by "<evaltype>_<metric family>", e.g. {"embeds_e_recall": {"e_recall@1": 0.5}}."""
    families: dict[str, dict[str, float]] = {}
    for metric in chosen:
        family = families.setdefault(f"{evaltype}_{metric.family}", {})
        family[metric.name] = values[metric.name]
    return families


def _clusters(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    chosen: Iterable[Metric],
    backend: str,
    memory: int,
) -> dict[str, torch.Tensor]:
    """Space -> [N] long k-means assignments, of the spaces in which a metric reads clusters."""
    assignments = {}
    for space in {metric.space for metric in chosen if metric.clusters}:
        rows = normalize(embeddings, dim=-1) if space == COSINE else embeddings
        count = len(labels.unique())
        assignments[space] = cluster(rows, count, seed=KMEANS_SEED, backend=backend, memory=memory)
    return assignments
