"""k-means assignments of a split, by faiss or by torch."""

import torch

from evaluation import faiss_library

ITERATIONS = 20
NUMBERS_AT_ONCE = 2**22  # of a block of rows, or of their distances to all centroids


def cluster(
    rows: torch.Tensor,
    clusters: int,
    *,
    seed: int,
    backend: str,
    memory: int = faiss_library.GPU_KEPT,
) -> torch.Tensor:
    """[N] long k-means assignments of rows [N, D] to `clusters` clusters, 0..clusters - 1.

    Args:
        backend: as in `--evaluation_backend`; `faiss_library.clusters_with` says what it means.
        memory: bytes that faiss may keep on a GPU beside the rows.
    Raises:
        UserError: faiss is asked for and not installed.
    """
    if faiss_library.clusters_with(backend, rows.device) == "torch":
        return lloyd(rows, clusters, seed=seed)
    return faiss_library.kmeans(rows, clusters, seed=seed, iterations=ITERATIONS, memory=memory)


def lloyd(
    rows: torch.Tensor, clusters: int, *, seed: int, iterations: int = ITERATIONS
) -> torch.Tensor:
    """[N] long: the nearest of `clusters` centroids for each of the rows [N, D], on their device.

    Lloyd's algorithm from random different rows: all rows are assigned to their nearest centroid,
    centroids move to the mean of their rows, until no row changes or after `iterations`. An empty
    cluster starts again at one of the rows that are farthest from their centroids, each at another;
    where there are fewer different rows than clusters, some stay empty. The same seed gives the
    same clusters. Beside the rows and the centroids it takes memory for a block of rows.

    Source: Lloyd, "Least squares quantization in PCM", IEEE Trans. Information Theory, 1982.
    """
    origin = rows.mean(0)  # products keep small distances only near the origin
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:clusters]
    centroids = rows[chosen.to(rows.device)] - origin
    nearest, squared = _assign(rows, origin, centroids)
    for _ in range(iterations):
        counts = nearest.bincount(minlength=clusters)
        centroids = _means(rows, origin, nearest, counts)
        empty = (counts == 0).nonzero().squeeze(1)
        farthest = squared.topk(len(empty)).indices
        centroids[empty] = rows[farthest] - origin
        before, (nearest, squared) = nearest, _assign(rows, origin, centroids)
        if len(empty) == 0 and torch.equal(nearest, before):
            break
    return nearest


def _assign(
    rows: torch.Tensor, origin: torch.Tensor, centroids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """[N] long: the nearest of the centroids [K, D], less `origin`; [N]: squared distances."""
    nearest = torch.empty(len(rows), dtype=torch.long, device=rows.device)
    squared = rows.new_empty(len(rows))
    centroid_squares = centroids.square().sum(1)
    step = _rows_at_once(rows, len(centroids))
    buffer = rows.new_empty(min(step, len(rows)), len(centroids))  # fresh memory is slow
    for start in range(0, len(rows), step):
        block = rows[start : start + step] - origin
        # |x - c|^2 less |x|^2, which does not change which is nearest.
        distances = buffer[: len(block)]
        torch.addmm(centroid_squares, block, centroids.T, alpha=-2, out=distances)
        values, nearest[start : start + step] = distances.min(dim=1)
        squared[start : start + step] = values + block.square().sum(1)
    return nearest, squared


def _means(
    rows: torch.Tensor, origin: torch.Tensor, nearest: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """[K, D]: the mean of the rows of each cluster, less `origin`; 0 for an empty one."""
    shape = len(counts), rows.shape[1]
    sums = torch.zeros(shape, dtype=torch.float64, device=rows.device)
    step = _rows_at_once(rows, 2)
    for start in range(0, len(rows), step):
        block = (rows[start : start + step] - origin).double()
        # Not index_add_, which adds in any order on a GPU.
        sums.index_put_((nearest[start : start + step],), block, accumulate=True)
    return (sums / counts.clamp(min=1)[:, None]).to(rows.dtype)


def _rows_at_once(rows: torch.Tensor, columns: int) -> int:
    """So many that neither they nor `columns` numbers for each are more than NUMBERS_AT_ONCE."""
    return max(1, NUMBERS_AT_ONCE // max(rows.shape[1], columns))
