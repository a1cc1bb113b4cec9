"""Embed a split -> search and cluster -> metrics. `evaluate(...)` is the door; faiss is imported in this room only."""

import torch

from evaluation import faiss_library
from evaluation.evaluate import evaluate, evaluate_embeddings
from evaluation.retrieval import Protocol
from utilities.errors import UserError

__all__ = ["Protocol", "evaluate", "evaluate_embeddings", "searches_with"]


def searches_with(backend: str, device: torch.device) -> str:
    """What `--evaluation_backend` means on this machine: torch, faiss, or faiss-gpu. Raises UserError where faiss is missing."""
    if backend != "faiss":
        return "torch"
    if faiss_library.library() is None:
        raise UserError(
            "--evaluation_backend faiss: faiss is not installed; pip install faiss-cpu (or faiss-gpu), or leave the flag out: torch gives the same answer."
        )
    return "faiss-gpu" if faiss_library.is_on_gpu(device) else "faiss"
