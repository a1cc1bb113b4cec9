"""From a network and a split to numbers."""
import torch
from torch import nn
from torch.nn.functional import normalize

from evaluation.embed import embed
from evaluation.search import QUERIES_AT_ONCE, build_index, cluster, neighbours
from metrics import COSINE, Metric, Retrieval
from utilities.meters import NonFiniteLoss

KMEANS_SEED = 1234


def evaluate(network: nn.Module, batches, labels: torch.Tensor, metrics: list[Metric], *, evaltypes: list[str],
             search_on_cpu: bool = False, device: torch.device, title: str = "", **embedding) -> dict[str, dict[str, float]]:
    """"<evaltype>_<metric family>" -> metric name -> value, e.g. {"embeds_e_recall": {"e_recall@1": 0.5}}.

    Args:
        batches: the split's `Batch`es. labels: [N] long. search_on_cpu: search and cluster on the CPU.
        title: name of the split. embedding: further arguments of `embed`.
    Raises:
        NonFiniteLoss: the network gives embeddings that are not finite.
    """
    rows = embed(network, batches, count=len(labels), evaltypes=evaltypes, device=device, title=title, **embedding)
    if not all(part.isfinite().all() for part in rows.values()):
        raise NonFiniteLoss(f"the embeddings of the {title} split are not finite after the last step")
    where = torch.device("cpu") if search_on_cpu else device
    families: dict[str, dict[str, float]] = {}
    for evaltype in evaltypes:
        values = evaluate_embeddings(rows[evaltype].to(where), labels.to(where), metrics)
        for metric in metrics:
            families.setdefault(f"{evaltype}_{metric.family}", {})[metric.name] = values[metric.name]
    return families


def evaluate_embeddings(embeddings: torch.Tensor, labels: torch.Tensor, metrics: list[Metric]) -> dict[str, float]:
    """Metric name -> value, for embeddings [N, D] float32 and labels [N] long."""
    retrieval = retrieve(embeddings, labels, metrics)
    return {metric.name: metric.compute(retrieval) for metric in metrics}


def retrieve(embeddings: torch.Tensor, labels: torch.Tensor, metrics: list[Metric]) -> Retrieval:
    """Search each space once, up to the largest k, and cluster once, if any metric asks."""
    spaces = {metric.space for metric in metrics if metric.space}
    largest = {space: max(metric.neighbours for metric in metrics if metric.space == space) for space in spaces}
    rows = {space: normalize(embeddings, dim=-1) if space == COSINE else embeddings for space in spaces}
    found = {space: _neighbour_labels(rows[space], labels, largest[space]) for space in spaces}
    wants_clusters = any(metric.clusters for metric in metrics)
    clusters = cluster(embeddings, len(labels.unique()), KMEANS_SEED) if wants_clusters else None
    return Retrieval(labels, embeddings, found, clusters)


def _neighbour_labels(embeddings: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    index = build_index(embeddings, k)
    small = labels.int()  # half the memory of the [N, k] matrix
    parts = [small[neighbours(embeddings, k, slice(start, start + QUERIES_AT_ONCE), index)]
             for start in range(0, len(embeddings), QUERIES_AT_ONCE)]
    return torch.cat(parts)
