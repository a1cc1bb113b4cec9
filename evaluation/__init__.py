"""Embed a split -> search and cluster -> metrics. `evaluate(...)` is the door; faiss is imported in this room only."""
from evaluation.embed import embed
from evaluation.evaluate import evaluate, evaluate_embeddings
from evaluation.search import backend

__all__ = ["backend", "embed", "evaluate", "evaluate_embeddings"]
