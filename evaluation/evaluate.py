"""From a network and a split to numbers."""

import torch
from torch import nn
from torch.nn.functional import normalize

from evaluation.clustering import cluster
from evaluation.embedding import embed
from evaluation.retrieval import Protocol, per_query
from metrics import COSINE, EmbeddedSplit, Metric, per_query_mean
from utilities.meters import NonFiniteLoss

KMEANS_SEED = 1234


def evaluate(
    network: nn.Module,
    batches,
    protocol: Protocol,
    metrics: list[Metric],
    *,
    evaltypes: list[str],
    memory: int,
    use_faiss: bool = False,
    text_vectors: torch.Tensor | None = None,
    search_on_cpu: bool = False,
    device: torch.device,
    title: str = "",
    keep: dict[str, torch.Tensor] | None = None,
    **embedding,
) -> dict[str, dict[str, float]]:
    """ "<evaltype>_<metric family>" -> metric name -> value, e.g. {"embeds_e_recall": {"e_recall@1": 0.5}}.

    Args:
        batches: the split's `Batch`es. protocol: on any device.
        memory, use_faiss, text_vectors: as in `evaluate_embeddings`.
        search_on_cpu: keep embeddings, search and cluster on the CPU. title: name of the split.
        keep: is filled with the embeddings by evaltype. embedding: further arguments of `embed`.
    Raises:
        NonFiniteLoss: the network gives embeddings that are not finite.
    """
    where = torch.device("cpu") if search_on_cpu else device
    rows = embed(
        network,
        batches,
        count=len(protocol.labels),
        evaltypes=evaltypes,
        device=device,
        keep_on=where,
        title=title,
        **embedding,
    )
    if not all(part.isfinite().all() for part in rows.values()):
        raise NonFiniteLoss(
            f"the embeddings of the {title} split are not finite after the last step"
        )
    if keep is not None:
        keep.update(rows)
    families: dict[str, dict[str, float]] = {}
    for evaltype in evaltypes:
        asked = [metric for metric in metrics if metric.evaltype in (None, evaltype)]
        values = evaluate_embeddings(
            rows[evaltype],
            protocol,
            asked,
            memory=memory,
            use_faiss=use_faiss,
            text_vectors=text_vectors,
        )
        for metric in asked:
            families.setdefault(f"{evaltype}_{metric.family}", {})[metric.name] = values[
                metric.name
            ]
    return families


def evaluate_embeddings(
    embeddings: torch.Tensor,
    protocol: Protocol,
    metrics: list[Metric],
    *,
    memory: int,
    use_faiss: bool = False,
    text_vectors: torch.Tensor | None = None,
) -> dict[str, float]:
    """Metric name -> value, for embeddings [N, D] of any floating type.

    Args:
        protocol: labels, and who searches where; metrics of clusters and of geometry are of the
            whole split.
        memory: bytes that the search may use beside the embeddings. use_faiss: let faiss search.
        text_vectors: [C, E] of the classes, for metrics that read them.
    """
    embeddings = embeddings.float()
    protocol = Protocol(
        *(part if part is None else part.to(embeddings.device) for part in protocol)
    )
    searched = [metric for metric in metrics if metric.depth]
    values = {
        name: per_query_mean(each)
        for name, each in per_query(
            embeddings, protocol, searched, memory=memory, use_faiss=use_faiss
        ).items()
    }
    spaces = {metric.space for metric in metrics if metric.clusters}
    split = EmbeddedSplit(
        protocol.labels,
        embeddings,
        {space: _clusters(embeddings, protocol.labels, space) for space in spaces},
        text_vectors,
    )
    return values | {metric.name: metric.compute(split) for metric in metrics if not metric.depth}


def _clusters(embeddings: torch.Tensor, labels: torch.Tensor, space: str) -> torch.Tensor:
    rows = normalize(embeddings, dim=-1) if space == COSINE else embeddings
    return cluster(rows, len(labels.unique()), seed=KMEANS_SEED)
