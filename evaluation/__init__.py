"""Embed a split -> search and cluster -> metrics. The only room that imports faiss.

`Evaluator` is the door for a network, `evaluate_embeddings` the one for embeddings.
"""

from evaluation.evaluate import evaluate_embeddings
from evaluation.evaluator import EvaluatedSplit, Evaluator, Search, SplitEvaluation
from evaluation.faiss_library import clusters_with, searches_with
from evaluation.retrieval import Protocol

__all__ = [
    "EvaluatedSplit",
    "Evaluator",
    "Protocol",
    "Search",
    "SplitEvaluation",
    "clusters_with",
    "evaluate_embeddings",
    "searches_with",
]
