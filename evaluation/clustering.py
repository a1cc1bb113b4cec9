"""k-means assignments of a split."""

import torch

from evaluation import faiss_library


def cluster(rows: torch.Tensor, clusters: int, *, seed: int, iterations: int = 20) -> torch.Tensor:
    """[N] long k-means assignments of rows [N, D], by faiss, or by scikit-learn where it is not installed."""
    if faiss_library.library() is not None:
        return faiss_library.kmeans(rows, clusters, seed, iterations)
    from sklearn.cluster import KMeans

    means = KMeans(clusters, init="random", n_init=1, max_iter=iterations, random_state=seed)
    return torch.from_numpy(means.fit_predict(rows.cpu().numpy())).long().to(rows.device)
