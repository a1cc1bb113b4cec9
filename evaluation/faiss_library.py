"""The only place that knows faiss: exact flat search and k-means on the CPU or one GPU. It is optional."""

from functools import cache
from types import ModuleType

import torch

from utilities.errors import UserError

GPU_LARGEST_K = 2048  # of faiss's GPU indices
BLAS_THRESHOLD = 20  # faiss 1.15 keeps the block of a search (hundreds of queries) from the matrix product, which is 3 times as fast


@cache
def library() -> ModuleType | None:
    """faiss, or None where it is not installed."""
    try:
        import faiss
    except (ImportError, OSError):  # OSError: a library that it needs is missing
        return None
    faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD
    return faiss


def is_on_gpu(device: torch.device) -> bool:
    """Whether faiss can use the GPU of tensors on `device`."""
    return (
        device.type == "cuda"
        and hasattr(library(), "StandardGpuResources")
        and library().get_num_gpus() > 0
    )


def searches_with(backend: str, device: torch.device) -> str:
    """What `--evaluation_backend` means on this machine: torch, faiss, or faiss-gpu.

    Raises UserError where faiss is missing.
    """
    if backend != "faiss":
        return "torch"
    if library() is None:
        raise UserError(
            "--evaluation_backend faiss: faiss is not installed; pip install faiss-cpu (or "
            "faiss-gpu), or leave the flag out: torch gives the same answer."
        )
    return "faiss-gpu" if is_on_gpu(device) else "faiss"


def flat_index(rows: torch.Tensor, k: int):
    """A search function (queries [Q, D], k) -> (squared distances [Q, k], indices [Q, k]) over rows [N, D], for k up to `k`."""
    index = _empty_index(rows, on_gpu=k <= GPU_LARGEST_K)
    index.add(rows.cpu().numpy())

    def search(queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        distances, indices = index.search(queries.cpu().numpy(), k)
        return torch.from_numpy(distances).to(queries.device), torch.from_numpy(indices).to(
            queries.device
        )

    return search


def kmeans(rows: torch.Tensor, clusters: int, seed: int, iterations: int) -> torch.Tensor:
    """[N] long: the nearest of `clusters` centroids for each row."""
    numbers = rows.cpu().numpy()
    means = library().Clustering(numbers.shape[1], clusters)
    means.niter, means.seed = iterations, seed
    means.min_points_per_centroid = 1  # silences a warning on small splits
    index = _empty_index(rows)
    means.train(numbers, index)  # leaves the centroids in the index
    return torch.from_numpy(index.search(numbers, 1)[1][:, 0]).to(rows.device)


def _empty_index(rows: torch.Tensor, on_gpu: bool = True):
    index = library().IndexFlatL2(rows.shape[1])
    if on_gpu and is_on_gpu(rows.device):
        index = library().index_cpu_to_gpu(
            library().StandardGpuResources(), rows.device.index or 0, index
        )
    return index
