"""The only place that knows faiss: exact flat search and k-means on the CPU or one GPU, indices.

faiss is optional. The indices of large galleries follow faiss's "Guidelines to choose an index"
(github.com/facebookresearch/faiss/wiki), which are for L2 distances; rows have length 1, so the
order is that of the cosine.
"""

import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch

from utilities import cores
from utilities.errors import UserError, reason

LOG = logging.getLogger(__name__)
GPU_LARGEST_K = 2048  # of faiss's GPU indices
# Bytes that faiss keeps on the GPU for as long as the process lives; its own choice is 1.5 GB. What
# a search needs beyond, the blocks of its product, it takes and gives back.
GPU_KEPT = 2**28
# A search at its smallest: a build of faiss without kernels for the GPU aborts the process.
TRIAL = """
import sys, torch, faiss, numpy
rows = numpy.eye(64, dtype="float32")
resources, gpu = faiss.StandardGpuResources(), int(sys.argv[1])
index = faiss.index_cpu_to_gpu(resources, gpu, faiss.IndexFlatL2(64))
index.add(rows)
index.search(rows, 1)
"""
TRIAL_SECONDS = 300
# Of queries. faiss 1.15 keeps the block of a search (hundreds of them) from the matrix product,
# which is 3 times as fast.
BLAS_THRESHOLD = 20

# Of indices that approximate. The guidelines say 4 to 16 times the root of N lists, and 30 to 256
# training rows for each. Here the lower ends, because k-means takes most of the time. The 65,536
# lists that they name beyond a million rows would take 2 million rows to train.
LISTS_BY_ROOT = 4
TRAINED_ON = 40  # rows for each list; faiss warns below 39
MANY_ROWS = 10**6  # from here on a graph finds the lists, which then are many
LINKS = 32  # of a row of a graph, of 4 to 64
SUBVECTOR = 2  # numbers that a code of 4 bits stands for
LEAST_CODED = 1024  # rows that codes are trained on, where there are so many
# What a search looks at: more finds more, and takes longer.
LEAST_LISTS, LISTS_SHARE = 16, 64  # of the lists one in so many, but at least so many lists
LEAST_CANDIDATES = 128  # of a graph
RERANKED = 10  # times the asked number of neighbours are listed by codes

# (queries [Q, D], k) -> (squared distances [Q, k], gallery rows [Q, k])
FlatSearch = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


class FlatIndex(Protocol):
    """What is used of faiss's exact index."""

    def add(self, rows: np.ndarray) -> None: ...

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]: ...


class RowIndex(FlatIndex, Protocol):
    """What is used of an index that approximates."""

    ntotal: int

    def train(self, rows: np.ndarray) -> None: ...


@cache
def library() -> ModuleType | None:
    """faiss, or None where it is not installed or cannot be loaded; the latter is told."""
    try:
        import faiss
    except ModuleNotFoundError:
        return None
    except (ImportError, OSError, RuntimeError) as error:  # of a library or a driver that it needs
        LOG.warning("faiss is installed but cannot be loaded: %s.", reason(error).rstrip("."))
        return None
    faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD
    faiss.omp_set_num_threads(min(faiss.omp_get_max_threads(), cores.usable()))
    return faiss


def required(flag: str = "--evaluation_backend faiss") -> ModuleType:
    """faiss. Raises UserError, naming the flag, where it is not installed or cannot be loaded."""
    faiss = library()
    if faiss is None:
        raise UserError(
            f"{flag}: faiss is not installed, or cannot be loaded; pip install faiss-cpu (or "
            "faiss-gpu), or leave the flag out: torch finds the same neighbours."
        )
    return faiss


def is_on_gpu(device: torch.device) -> bool:
    """Whether faiss can use the GPU of tensors on `device`; that it cannot is told once."""
    faiss = required()
    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        return False
    return faiss.get_num_gpus() > 0 and _has_kernels_for(device.index or 0)


@cache
def _has_kernels_for(gpu: int) -> bool:
    """Tried in a process of its own, which may end as it likes."""
    command = [sys.executable, "-c", TRIAL, str(gpu)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        status, said = 1, str(error)
    else:
        status, said = ended.returncode, ended.stderr
    if status:
        last_line = (said.strip() or f"status {status}").splitlines()[-1]
        LOG.warning("faiss cannot use GPU %d: [%s].", gpu, reason(last_line[-160:]))
    return status == 0


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

    Under `auto` torch searches, and faiss clusters where it is installed, as the paper's code does;
    but torch on a GPU that faiss cannot use, as faiss takes a hundred times as long on the CPU.
    Raises UserError where faiss is missing.
    """
    if backend == "torch" or (backend == "auto" and library() is None):
        return "torch"
    name = name_on(device)
    is_away = device.type == "cuda" and name == "faiss"
    return "torch" if backend == "auto" and is_away else name


def flat_index(rows: torch.Tensor, k: int, *, memory: int = GPU_KEPT) -> FlatSearch:
    """A search function over rows [N, D], for k up to `k`.

    Args:
        memory: bytes that faiss may keep on a GPU beside them.
    """
    index = _empty_index(rows, memory, may_use_gpu=k <= GPU_LARGEST_K)
    index.add(rows.cpu().numpy())

    def search(queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        distances, places = index.search(queries.cpu().numpy(), k)
        device = queries.device
        return torch.from_numpy(distances).to(device), torch.from_numpy(places).to(device)

    return search


def kmeans(
    rows: torch.Tensor, clusters: int, *, seed: int, iterations: int, memory: int = GPU_KEPT
) -> torch.Tensor:
    """[N] long: the nearest of `clusters` centroids for each of the rows [N, D].

    `memory` as for `flat_index`.
    """
    numbers = rows.cpu().numpy()
    means = required().Clustering(numbers.shape[1], clusters)
    means.niter, means.seed = iterations, seed
    means.min_points_per_centroid = 1  # silences a warning on small splits
    index = _empty_index(rows, memory)
    means.train(numbers, index)  # leaves the centroids in the index
    _, nearest = index.search(numbers, 1)
    return torch.from_numpy(nearest[:, 0]).to(rows.device)


def most_similar(rows: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Products [Q, k], descending, of queries [Q, D] with rows [N, D], and which rows.

    By torch where faiss is not installed.
    """
    faiss = library()
    if faiss is not None:
        return faiss.knn(queries, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
    products = torch.from_numpy(queries) @ torch.from_numpy(rows).T
    values, places = products.topk(k, dim=1)
    return values.numpy(), places.numpy()


def products(
    rows: np.ndarray, places: np.ndarray, others: np.ndarray, other_places: np.ndarray
) -> np.ndarray:
    """[M] float32: of pairs of rows [N, D] at places [M] and others at theirs, without a copy."""
    faiss = required()
    result = np.empty(len(places), dtype=np.float32)
    numbers = [np.ascontiguousarray(part, dtype=np.float32) for part in (rows, others)]
    where = [np.ascontiguousarray(part, dtype=np.int64) for part in (places, other_places)]
    one, other = (map(faiss.swig_ptr, pair) for pair in zip(numbers, where))
    dim, pointer = rows.shape[1], faiss.swig_ptr(result)
    faiss.pairwise_indexed_inner_product(dim, len(places), *one, *other, pointer)
    return result


def recipe(kind: str, dim: int, count: int) -> str:
    """What faiss's index_factory makes `kind` (ivf, hnsw, pq) of, for `count` rows of D numbers."""
    if kind == "hnsw":
        return f"HNSW{LINKS},Flat"
    graph = f"_HNSW{LINKS}" if count >= MANY_ROWS else ""
    lists = f"IVF{list_count(count)}{graph}"
    if kind == "ivf":
        return f"{lists},Flat"
    codes = max(1, dim // SUBVECTOR)
    rotated = "" if dim % SUBVECTOR == 0 else f"PCAR{codes * SUBVECTOR},"
    return f"{rotated}{lists},PQ{codes}x4fsr"


def list_count(count: int) -> int:
    """Into how many lists `count` rows are divided: no more than they can train."""
    return max(1, min(int(LISTS_BY_ROOT * math.sqrt(count)), count // TRAINED_ON))


def training_rows(kind: str, count: int) -> int:
    """How many of `count` rows an index learns from; a graph from none."""
    return 0 if kind == "hnsw" else min(count, max(LEAST_CODED, TRAINED_ON * list_count(count)))


def bytes_of_row(kind: str, dim: int) -> int:
    """What a row takes in an index, by the guidelines."""
    if kind == "pq":
        return max(1, dim // SUBVECTOR) // 2 + 8
    return 4 * dim + (2 * 4 * LINKS if kind == "hnsw" else 8)


def new_index(kind: str, dim: int, count: int, sample: np.ndarray) -> RowIndex:
    """An empty index for `count` rows, trained on a sample [M, D] of them.

    Raises UserError where faiss is not installed.
    """
    faiss = required(f"--index_kind {kind}")
    index = faiss.index_factory(dim, recipe(kind, dim, count))
    if kind != "hnsw":
        lists = faiss.extract_index_ivf(index)
        lists.cp.min_points_per_centroid = 1  # silences a warning on small galleries
        if kind == "pq":
            faiss.downcast_index(lists).pq.cp.min_points_per_centroid = 1
        index.train(sample)
    return index


def candidates(kind: str, index: RowIndex, queries: np.ndarray, count: int) -> np.ndarray:
    """[Q, L]: the rows that an index lists for unit queries [Q, D], at least `count` if it can."""
    set_effort(kind, index, count)
    if kind == "pq":
        count = min(RERANKED * count, index.ntotal)
    return index.search(queries, count)[1]


def set_effort(kind: str, index: RowIndex, count: int) -> None:
    """How much of an index a search for `count` rows looks at."""
    faiss = required(f"--index_kind {kind}")
    if kind == "hnsw":
        faiss.downcast_index(index).hnsw.efSearch = max(LEAST_CANDIDATES, 2 * count)
    else:
        lists = faiss.extract_index_ivf(index)
        lists.nprobe = min(lists.nlist, max(LEAST_LISTS, lists.nlist // LISTS_SHARE))


def write_index(index: RowIndex, file: str | os.PathLike) -> None:
    """Raises OSError where it cannot be written."""
    faiss = required()
    try:
        faiss.write_index(index, os.fspath(file))
    except RuntimeError as error:
        raise OSError(str(error)) from error


def read_index(file: str | os.PathLike) -> RowIndex:
    """What `write_index` wrote. Raises OSError for what cannot be read."""
    faiss = required()
    try:
        return faiss.read_index(os.fspath(file))
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _empty_index(rows: torch.Tensor, memory: int, may_use_gpu: bool = True) -> FlatIndex:
    faiss = required()
    index = faiss.IndexFlatL2(rows.shape[1])
    if may_use_gpu and is_on_gpu(rows.device):
        torch.cuda.empty_cache()  # what torch keeps in reserve, faiss cannot take
        resources = _gpu_resources()
        resources.setTempMemory(min(memory, GPU_KEPT))
        index = faiss.index_cpu_to_gpu(resources, rows.device.index or 0, index)
    return index


@cache  # one for the process: each takes memory of its own
def _gpu_resources() -> Any:
    """faiss's StandardGpuResources; it has no types."""
    return required().StandardGpuResources()
