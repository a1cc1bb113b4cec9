"""The only place that knows faiss: exact flat search and k-means on the CPU or one GPU.

faiss is optional.
"""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Protocol

import numpy as np
import torch

from utilities import cores
from utilities.errors import UserError

GPU_LARGEST_K = 2048  # of faiss's GPU indices
# Of queries. faiss 1.15 keeps the block of a search (hundreds of them) from the matrix product,
# which is 3 times as fast.
BLAS_THRESHOLD = 20

# (queries [Q, D], k) -> (squared distances [Q, k], gallery rows [Q, k])
FlatSearch = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


class FlatIndex(Protocol):
    """What is used of faiss's exact index."""

    def add(self, rows: np.ndarray) -> None: ...

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]: ...


@cache
def library() -> ModuleType | None:
    """faiss, or None where it is not installed."""
    try:
        import faiss
    except (ImportError, OSError):  # OSError: a library that it needs is missing
        return None
    faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD
    faiss.omp_set_num_threads(min(faiss.omp_get_max_threads(), cores.usable()))
    return faiss


def required() -> ModuleType:
    """faiss. Raises UserError where it is not installed."""
    faiss = library()
    if faiss is None:
        raise UserError(
            "--evaluation_backend faiss: faiss is not installed; pip install faiss-cpu (or "
            "faiss-gpu), or leave the flag out: torch finds the same neighbours."
        )
    return faiss


def is_on_gpu(device: torch.device) -> bool:
    """Whether faiss can use the GPU of tensors on `device`."""
    faiss = required()
    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        return False
    return faiss.get_num_gpus() > 0


def name_on(device: torch.device) -> str:
    """faiss or faiss-gpu: which of them works on tensors on `device`."""
    return "faiss-gpu" if is_on_gpu(device) else "faiss"


def searches_with(backend: str, device: torch.device) -> str:
    """What searches on this machine under `--evaluation_backend`: torch, faiss, or faiss-gpu.

    Raises UserError where faiss is missing.
    """
    return name_on(device) if backend == "faiss" else "torch"


def clusters_with(backend: str, device: torch.device) -> str:
    """What clusters on this machine under `--evaluation_backend`: torch, faiss, or faiss-gpu.

    Under `auto` torch searches, and faiss clusters where it is installed, as the paper's code does.
    Raises UserError where faiss is missing.
    """
    is_faiss = backend == "faiss" or (backend == "auto" and library() is not None)
    return name_on(device) if is_faiss else "torch"


def flat_index(rows: torch.Tensor, k: int) -> FlatSearch:
    """A search function over rows [N, D], for k up to `k`."""
    index = _empty_index(rows, may_use_gpu=k <= GPU_LARGEST_K)
    index.add(rows.cpu().numpy())

    def search(queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        distances, places = index.search(queries.cpu().numpy(), k)
        device = queries.device
        return torch.from_numpy(distances).to(device), torch.from_numpy(places).to(device)

    return search


def kmeans(rows: torch.Tensor, clusters: int, *, seed: int, iterations: int) -> torch.Tensor:
    """[N] long: the nearest of `clusters` centroids for each of the rows [N, D]."""
    numbers = rows.cpu().numpy()
    means = required().Clustering(numbers.shape[1], clusters)
    means.niter, means.seed = iterations, seed
    means.min_points_per_centroid = 1  # silences a warning on small splits
    index = _empty_index(rows)
    means.train(numbers, index)  # leaves the centroids in the index
    _, nearest = index.search(numbers, 1)
    return torch.from_numpy(nearest[:, 0]).to(rows.device)


def _empty_index(rows: torch.Tensor, may_use_gpu: bool = True) -> FlatIndex:
    faiss = required()
    index = faiss.IndexFlatL2(rows.shape[1])
    if may_use_gpu and is_on_gpu(rows.device):
        gpu = rows.device.index or 0
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), gpu, index)
    return index
