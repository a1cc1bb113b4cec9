"""Neighbours and clusters against brute force, with faiss and without."""
import importlib

import numpy as np
import pytest
import torch

import metrics
from evaluation import search
from evaluation.evaluate import evaluate_embeddings, retrieve

EVALUATE = importlib.import_module("evaluation.evaluate")  # the room has a function of that name
CPU = torch.device("cpu")


@pytest.fixture(params=["faiss", "torch"])
def library(request, monkeypatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(search, "_faiss", lambda: None)
    else:
        pytest.importorskip("faiss")
    return request.param


def naive(embeddings: torch.Tensor, k: int) -> list[list[int]]:
    """The nearest others in float64, ties by ascending index."""
    rows = embeddings.double().numpy()
    found = []
    for query in range(len(rows)):
        distances = [(float(((rows[query] - rows[other]) ** 2).sum()), other) for other in range(len(rows)) if other != query]
        found.append([other for _, other in sorted(distances)[:k]])
    return found


def neighbours(embeddings: torch.Tensor, k: int, queries: slice = slice(None)) -> list[list[int]]:
    return search.neighbours(embeddings, k, queries, search.build_index(embeddings, k)).tolist()


def random_rows(count: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def grid(count: int, sides: int, seed: int = 0) -> torch.Tensor:
    """Whole numbers, so that distances are exact and many are equal."""
    return torch.randint(sides, (count, 3), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("count, k", [(200, 1), (200, 10), (30, 29), (30, 100), (2, 1), (2, 5)])
def test_random_rows(library, count, k):
    assert neighbours(random_rows(count), k) == naive(random_rows(count), k)


def test_both_libraries_find_the_same(monkeypatch):
    pytest.importorskip("faiss")
    rows = torch.nn.functional.normalize(random_rows(400, 16), dim=1)
    first = neighbours(rows, 20)
    monkeypatch.setattr(search, "_faiss", lambda: None)
    assert neighbours(rows, 20) == first


def test_ties_go_by_ascending_index(library):
    line = torch.arange(12.0)[:, None]
    assert neighbours(line, 4) == naive(line, 4)
    copies = torch.cat([grid(8, 4), grid(8, 4), grid(8, 4)])
    assert neighbours(copies, 2) == naive(copies, 2)


@pytest.mark.parametrize("copies", [2, 5, 30, 100])
def test_a_query_never_finds_itself_among_exact_duplicates(library, copies):
    rows = random_rows(3).repeat(copies, 1)
    for k in (1, 4):
        found = neighbours(rows, k)
        for query, others in enumerate(found):
            assert query not in others and len(set(others)) == len(others) == min(k, len(rows) - 1)
            assert all(other % 3 == query % 3 for other in others[:copies - 1])


def test_rows_far_from_the_origin_keep_their_neighbours(library):
    """Squared norms minus products loses the small distances of rows that share a large part, as pooled features do."""
    rows = random_rows(60) + 20
    assert neighbours(rows, 1) == naive(rows, 1)


def test_slices_of_queries_give_the_same_as_one_go(library):
    rows = random_rows(50)
    index = search.build_index(rows, 5)
    parts = [search.neighbours(rows, 5, slice(start, start + 7), index) for start in range(0, 50, 7)]
    assert torch.equal(torch.cat(parts), search.neighbours(rows, 5, slice(0, 50), index))


def test_chunks_of_an_evaluation_give_the_same_as_one_go(library, monkeypatch):
    rows, labels = random_rows(50), torch.arange(50) % 7
    asked = [metrics.parse("e_recall@3"), metrics.parse("mAP_1000")]
    whole = evaluate_embeddings(rows, labels, asked)
    monkeypatch.setattr(EVALUATE, "QUERIES_AT_ONCE", 7)
    assert evaluate_embeddings(rows, labels, asked) == whole


def test_only_what_is_asked_is_computed(monkeypatch):
    monkeypatch.setattr(EVALUATE, "cluster", lambda *args: pytest.fail("clustered"))
    found = retrieve(random_rows(20), torch.arange(20) % 4, [metrics.parse("e_recall@1"), metrics.parse("e_recall@6")])
    assert found.clusters is None and {space: tuple(ids.shape) for space, ids in found.neighbour_labels.items()} == {"euclidean": (20, 6)}


def test_cosine_search_is_euclidean_search_of_unit_rows(library):
    rows, labels = random_rows(40) * torch.linspace(0.1, 10, 40)[:, None], torch.arange(40) % 5
    unit = torch.nn.functional.normalize(rows, dim=1)
    found = evaluate_embeddings(rows, labels, [metrics.parse("c_recall@3")])["c_recall@3"]
    assert found == evaluate_embeddings(unit, labels, [metrics.parse("e_recall@3")])["e_recall@3"]


def blobs(classes: int = 4, each: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(classes).repeat(each)
    return 20 * torch.eye(classes)[labels] + 0.01 * random_rows(len(labels), classes), labels


def test_clusters_are_deterministic(library):
    rows = random_rows(80)
    first = search.cluster(rows, 6, seed=3)
    torch.manual_seed(9)
    np.random.seed(9)
    assert torch.equal(first, search.cluster(rows, 6, seed=3))
    assert first.shape == (80,) and first.dtype == torch.long and set(first.tolist()) <= set(range(6))
    assert not torch.equal(first, search.cluster(rows, 6, seed=4))


def test_clusters_of_two_far_blobs(library):
    rows, labels = blobs(2)
    found = search.cluster(rows, 2, seed=0)
    assert len({(label, cluster) for label, cluster in zip(labels.tolist(), found.tolist())}) == 2


def test_as_many_clusters_as_rows(library):
    assert len(search.cluster(random_rows(5), 5, seed=0)) == 5


def test_clustering_does_not_touch_the_global_streams(library):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    search.cluster(random_rows(30), 3, seed=0)
    assert torch.equal(before, torch.get_rng_state()) and (numpy_before == np.random.get_state()[1]).all()


def test_backend(monkeypatch):
    monkeypatch.setattr(search, "_faiss", lambda: None)
    assert search.backend(CPU) == "torch"
