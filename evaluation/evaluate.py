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
from utilities.choices import one_of
from utilities.functional import are_whole
from utilities.runtime import memory_budget

KMEANS_SEED = 1234
BACKENDS = ("auto", "torch", "faiss")  # of --evaluation_backend
DEFAULT_METRICS = ("e_recall@1", "e_recall@2", "e_recall@4", "e_recall@10", "mAP_1000", "mAP@R")


def evaluate_embeddings(
    embeddings: torch.Tensor | np.ndarray,
    labels: torch.Tensor | np.ndarray | Protocol,
    wanted: str | Sequence[str | Metric] = DEFAULT_METRICS,
    *,
    backend: str = "auto",
    memory: int | None = None,
    text_vectors: torch.Tensor | np.ndarray | None = None,
) -> dict[str, float]:
    """Metric name -> value, for embeddings [N, D] of any floating type, of torch or numpy.

    Processes of a run divide the search; the first computes what is of the whole split.

    Args:
        labels: [N] of whole numbers, or a `Protocol` that also says who searches where; metrics of
            clusters and of geometry are of the whole split.
        wanted: metrics, or their names as in `--evaluation_metrics`; one, or several.
        backend: what searches and clusters, as in `--evaluation_backend`.
        memory: bytes that the search may use beside the embeddings; None takes half of what is free
            on their device.
        text_vectors: [C, E], of any length, row c of the class whose label is c, for metrics that
            read them.
    Raises:
        ValueError: shapes that do not fit together, no row, embeddings that are not `comparable`,
            labels that are no whole numbers from 0 on, rows of a protocol that there are not,
            a class without a text vector, or a backend that there is not.
    """
    one_of("backend", backend, BACKENDS)
    embeddings = torch.as_tensor(embeddings).detach().float()
    if memory is None:
        memory = memory_budget("auto", embeddings.device)
    protocol = _protocol(labels).to(embeddings.device)
    _require_rows(embeddings, protocol)
    texts = None
    if text_vectors is not None:
        texts = _unit_rows(torch.as_tensor(text_vectors), protocol.labels.unique())
    protocol = _numbered(protocol)
    several = [wanted] if isinstance(wanted, str) else wanted
    chosen = [metrics.parse(metric) if isinstance(metric, str) else metric for metric in several]
    searched = search(embeddings, protocol, chosen, memory=memory, use_faiss=backend == "faiss")
    values = {name: per_query_mean(of_queries) for name, of_queries in searched.values.items()}

    def of_split() -> dict[str, float]:
        split = EmbeddedSplit(
            protocol.labels,
            embeddings,
            _clusters(embeddings, protocol.labels, chosen, backend, memory),
            texts,
            searched.firsts,
            protocol.superclasses_of_classes(),
        )
        measured = [metric for metric in chosen if not metric.depth]
        return {metric.name: float(metric.compute(split)) for metric in measured}

    return values | processes.from_main(of_split)


def comparable(embeddings: torch.Tensor) -> bool:
    """Whether embeddings [N, D] are finite, and so are all distances between them in float32."""
    return bool((embeddings.norm(dim=1) < LONGEST).all())


def _protocol(labels: torch.Tensor | np.ndarray | Protocol) -> Protocol:
    """Of tensors of long. Raises ValueError for other numbers."""
    given = labels if isinstance(labels, Protocol) else Protocol(torch.as_tensor(labels))
    others = {
        name: None if part is None else _whole(part, name)
        for name, part in given._asdict().items()
        if name != "labels"
    }
    return Protocol(_whole(given.labels, "labels"), **others)


def _whole(part: torch.Tensor | np.ndarray, name: str) -> torch.Tensor:
    """Labels, or rows, as long."""
    part = torch.as_tensor(part)
    if not are_whole(part):
        raise ValueError(f"{name} must be whole numbers, not {part.dtype}")
    return part.long()


def _numbered(protocol: Protocol) -> Protocol:
    """Labels as places among those that are present: a search has room for each up to the last."""
    superclasses = protocol.superclasses
    if superclasses is not None:
        superclasses = superclasses.unique(return_inverse=True)[1]
    labels = protocol.labels.unique(return_inverse=True)[1]
    return protocol._replace(labels=labels, superclasses=superclasses)


def _unit_rows(vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """[P, E] of length 1, of the vectors [C, E] of the classes that are present [P]."""
    if vectors.ndim != 2 or len(vectors) <= present[-1]:
        raise ValueError(
            "expected text_vectors [C, E] with a row for each label up to "
            f"{int(present[-1])}, got {tuple(vectors.shape)}"
        )
    return normalize(vectors[present.to(vectors.device)].double(), dim=1)


def _require_rows(embeddings: torch.Tensor, protocol: Protocol) -> None:
    labels = protocol.labels
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or embeddings.numel() == 0:
        raise ValueError(
            "expected embeddings [N, D] and labels [N] with at least one row, got "
            f"{tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    if not comparable(embeddings):
        raise ValueError(f"embeddings must be finite, and no longer than {LONGEST:g}")
    if labels.min() < 0:
        raise ValueError(f"labels must be at least 0, not {int(labels.min())}")
    for name in ("queries", "gallery"):
        places = getattr(protocol, name)
        if places is None:
            continue
        if len(places) == 0 or places.min() < 0 or places.max() >= len(labels):
            raise ValueError(f"{name} must be rows from 0 to {len(labels) - 1}, one or more")


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
