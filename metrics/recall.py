"""Recall@k of deep metric learning."""
from metrics.retrieval import Retrieval


def recall(retrieval: Retrieval, space: str, k: int) -> float:
    """Share of queries with a class-mate among their k nearest; the only image of a class is a miss."""
    return retrieval.hits(space, k, 0, len(retrieval.labels)).any(1).double().mean().item()
