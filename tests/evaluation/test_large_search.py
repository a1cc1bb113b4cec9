"""Search in galleries of any size: exact block by block, and by indices that miss some."""

import sys

import numpy as np
import pytest
import torch

from evaluation import faiss_library, large_search
from evaluation.large_search import Found, Rows
from evaluation.neighbours import Gallery, nearest
from metrics import COSINE

KINDS = ("ivf", "hnsw", "pq")


@pytest.fixture
def without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    faiss_library.library.cache_clear()
    yield
    faiss_library.library.cache_clear()


def clustered(count: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """Rows [N, D] around N / 20 centres, none of length 1."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(1, count // 20), dim))
    rows = centres[random.integers(len(centres), size=count)]
    return (rows + 0.5 * random.standard_normal((count, dim))).astype(np.float32)


def by_gallery(rows: np.ndarray, queries: np.ndarray, own: np.ndarray, k: int) -> Found:
    """By the search of an evaluation."""
    gallery = Gallery(torch.from_numpy(rows), COSINE, depth=k)
    squared, places = nearest(gallery, torch.from_numpy(queries), torch.from_numpy(own), k)
    return Found(squared.numpy(), places.numpy())


def compare(rows: np.ndarray, k: int, monkeypatch) -> None:
    """Exact search in parts, a third of the queries of the gallery, and as an evaluation does."""
    monkeypatch.setattr(large_search, "ROWS_AT_ONCE", 50)
    own = np.arange(0, len(rows), 7)
    own[::3] = -1
    queries = rows[::7].copy()
    expected = by_gallery(rows, queries, own, k)
    found = large_search.exact(Rows(np.array_split(rows, [10, 11, 150])), queries, own, k)
    np.testing.assert_array_equal(found.places, expected.places)
    np.testing.assert_array_equal(found.squared, expected.squared)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_the_pass_over_all_rows_finds_what_an_evaluation_finds(k, monkeypatch):
    compare(clustered(400), k, monkeypatch)


def test_so_it_does_without_faiss(monkeypatch, without_faiss):
    compare(clustered(400), 10, monkeypatch)


def test_so_it_does_among_copies(monkeypatch):
    """Of which there are more than a list has room for: the first ones come first."""
    compare(np.repeat(clustered(8), 50, axis=0), 10, monkeypatch)


def test_few_rows_are_all_found():
    rows = clustered(5)
    found = large_search.exact(Rows([rows[:2], rows[2:]]), rows[:2], np.array([0, -1]), 9)
    assert sorted(found.places[0, :4]) == [1, 2, 3, 4] and found.places[0, 4] == -1
    assert sorted(found.places[1]) == [0, 1, 2, 3, 4] and np.isinf(found.squared[0, 4])


def test_rows_of_files_are_taken_by_their_places(tmp_path):
    rows = clustered(100)
    for number, part in enumerate(np.split(rows, [30, 31])):
        np.save(tmp_path / f"{number}.npy", part)
    mapped = Rows([np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(3)])
    places = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(mapped.take(places), rows[places])
    assert len(mapped) == 100 and mapped.dimension == 16
    np.testing.assert_array_equal(mapped.whole(), rows)
    units = np.concatenate([block for _, block in mapped.units()])
    np.testing.assert_allclose(units, rows / np.linalg.norm(rows, axis=1)[:, None], rtol=1e-6)


def test_torch_may_have_what_a_file_holds(tmp_path, recwarn):
    np.save(tmp_path / "rows.npy", clustered(9))
    rows = Rows([np.load(tmp_path / "rows.npy", mmap_mode="r")])
    torch.from_numpy(rows.whole())
    assert rows.whole().flags.writeable and not recwarn.list


@pytest.mark.parametrize("kind, dim", [*((kind, 16) for kind in KINDS), ("pq", 15)])
def test_an_index_finds_most_and_with_the_same_similarities(kind, dim):
    rows, own = clustered(2000, dim), np.arange(0, 2000, 40)
    parts, queries = Rows([rows[:900], rows[900:]]), rows[::40].copy()
    sample = large_search.unit(rows[: faiss_library.training_rows(kind, 2000)])
    index = faiss_library.new_index(kind, dim, 2000, sample)
    for _, block in parts.units():
        index.add(block)

    def candidates(asked: np.ndarray, count: int) -> np.ndarray:
        return faiss_library.candidates(kind, index, asked, count)

    found = large_search.nearest(parts, queries, own, 10, candidates)
    truth = large_search.exact(parts, queries, own, 10)
    assert large_search.recall(found, truth) > 0.9
    assert (np.diff(found.squared, axis=1) >= 0).all() and (found.places != own[:, None]).all()
    true_distance = {
        (query, place): squared
        for query, row in enumerate(truth.places)
        for place, squared in zip(row, truth.squared[query])
    }
    for query, row in enumerate(found.places):
        for place, squared in zip(row, found.squared[query]):
            assert true_distance.get((query, place), squared) == squared


def test_recall_counts_what_is_as_near_as_the_last():
    truth = Found(np.array([[0.1, 0.2], [0.3, np.inf]]), np.array([[4, 5], [6, -1]]))
    found = Found(np.array([[0.2, 0.4], [0.3, np.inf]]), np.array([[7, 8], [6, -1]]))
    assert large_search.recall(truth, truth) == 1
    assert large_search.recall(found, truth) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "kind, dim, count, expected",
    [
        ("hnsw", 128, 10_000, "HNSW32,Flat"),
        ("ivf", 128, 100_000, "IVF1264,Flat"),
        ("ivf", 128, 10_000_000, "IVF12649_HNSW32,Flat"),
        ("pq", 128, 10_000_000, "IVF12649_HNSW32,PQ64x4fsr"),
        ("pq", 15, 100, "PCAR14,IVF2,PQ7x4fsr"),
        ("ivf", 8, 10, "IVF1,Flat"),
    ],
)
def test_recipes_follow_the_size(kind, dim, count, expected):
    assert faiss_library.recipe(kind, dim, count) == expected


@pytest.mark.parametrize("content", [b"", b"not an index"])
def test_what_is_no_index_is_an_error_of_the_file(tmp_path, content):
    (tmp_path / "x.faiss").write_bytes(content)
    with pytest.raises(OSError):
        faiss_library.read_index(tmp_path / "x.faiss")
