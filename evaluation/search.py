"""Exact nearest neighbours and k-means, with faiss where it can be imported and torch or scikit-learn where not."""
from functools import cache
from types import ModuleType

import torch

QUERIES_AT_ONCE = 2048
# Neighbours beyond k that are fetched so that the query itself and exact duplicates can be sorted out.
SPARE = 8
FAISS_GPU_LARGEST_K = 2048


@cache
def _faiss() -> ModuleType | None:
    try:
        import faiss
    except (ImportError, OSError):  # OSError: a library that it needs is missing
        return None
    return faiss


def backend(device: torch.device) -> str:
    """What searches on this device, for the run's summary."""
    faiss = _faiss()
    if faiss is None:
        return "torch"
    return "faiss-gpu" if _on_gpu(faiss, device) else "faiss"


def neighbours(embeddings: torch.Tensor, k: int, queries: slice, index) -> torch.Tensor:
    """[Q, min(k, N - 1)] indices of the nearest other rows by Euclidean distance, ties by ascending index.

    Args:
        embeddings: [N, D] float32. queries: the rows that ask. index: of `build_index` over the same embeddings.
    """
    count = len(embeddings)
    k = min(k, count - 1)
    distances, candidates = index(embeddings[queries], min(k + SPARE, count))
    own = torch.arange(count, device=candidates.device)[queries, None]
    distances = distances.masked_fill(candidates == own, float("inf"))  # dropped by index: a duplicate may come first
    order = candidates.argsort(dim=1)
    by_distance = distances.gather(1, order).argsort(dim=1, stable=True)
    return candidates.gather(1, order.gather(1, by_distance[:, :k]))


def build_index(embeddings: torch.Tensor, k: int):
    """A function (queries [Q, D], k) -> (squared distances [Q, k], indices [Q, k]) over the rows of `embeddings`."""
    faiss = _faiss()
    if faiss is None:
        return _torch_index(embeddings)
    index = _flat_index(faiss, embeddings, on_gpu=k + SPARE <= FAISS_GPU_LARGEST_K)
    index.add(embeddings.cpu().numpy())

    def search(queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        distances, indices = index.search(queries.cpu().numpy(), k)
        return torch.from_numpy(distances).to(queries.device), torch.from_numpy(indices).to(queries.device)
    return search


def cluster(embeddings: torch.Tensor, clusters: int, seed: int, iterations: int = 20) -> torch.Tensor:
    """[N] k-means assignments of the rows."""
    faiss = _faiss()
    if faiss is None:
        from sklearn.cluster import KMeans
        means = KMeans(clusters, init="random", n_init=1, max_iter=iterations, random_state=seed)
        return torch.from_numpy(means.fit_predict(embeddings.cpu().numpy())).long().to(embeddings.device)
    rows = embeddings.cpu().numpy()
    means = faiss.Clustering(rows.shape[1], clusters)
    means.niter, means.seed = iterations, seed
    means.min_points_per_centroid = 1  # silences a warning on small splits
    index = _flat_index(faiss, embeddings)
    means.train(rows, index)  # leaves the centroids in the index
    return torch.from_numpy(index.search(rows, 1)[1][:, 0]).to(embeddings.device)


def _torch_index(embeddings: torch.Tensor):
    squared_norms = embeddings.square().sum(1)

    def search(queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        squared = queries.square().sum(1, keepdim=True) + squared_norms - 2 * queries @ embeddings.T
        return squared.clamp(min=0).topk(k, largest=False)
    return search


def _flat_index(faiss: ModuleType, embeddings: torch.Tensor, on_gpu: bool = True):
    """An empty exact index on the device of the embeddings."""
    index = faiss.IndexFlatL2(embeddings.shape[1])
    if on_gpu and _on_gpu(faiss, embeddings.device):
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), embeddings.device.index or 0, index)
    return index


def _on_gpu(faiss: ModuleType, device: torch.device) -> bool:
    return device.type == "cuda" and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
