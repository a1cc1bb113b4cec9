"""Query expansion and re-ranking around what is found, as an evaluation has it of all rows."""

from functools import partial

import numpy as np
import pytest
import torch

from evaluation import large_refinement, large_search, refinement
from evaluation.large_search import Rows
from evaluation.neighbours import Gallery
from evaluation.refinement import Expansion, Reranking
from metrics import COSINE


def clustered(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((9, 8))[np.arange(count) % 9]
    return (rows + 0.8 * random.standard_normal((count, 8))).astype(np.float32)


@pytest.fixture(params=["some of the gallery", "none", "all"])
def own(request) -> np.ndarray:
    """[20], the rows of the gallery that are asked with, -1 for others."""
    places = np.arange(0, 120, 6)
    return {"all": places, "none": np.full(20, -1)}.get(
        request.param, np.where(places % 4, places, -1)
    )


def queries(rows: np.ndarray, own: np.ndarray) -> np.ndarray:
    return np.where(own[:, None] >= 0, rows[own], clustered(20, seed=1))


def gallery_of(rows: np.ndarray) -> Gallery:
    return Gallery(torch.from_numpy(rows), COSINE, depth=len(rows))


@pytest.mark.parametrize("count", [120, 15])
def test_what_is_around_is_enough(own, count):
    if count == 15:  # fewer than a list asks for
        own = np.where(own < 15, own, -1)
    rows = clustered(count)
    asked, parts = queries(rows, own), Rows(np.array_split(rows, 4))
    find = partial(large_search.exact, parts)
    found = large_refinement.reranked(find, parts, asked, own, count)
    reranking = Reranking(gallery_of(rows), at_once=50)
    expected = reranking.places(torch.from_numpy(asked), torch.from_numpy(own), count).numpy()
    np.testing.assert_array_equal(found.places, expected)
    distances = large_search.squared_distances(parts, asked, found.places)
    np.testing.assert_array_equal(found.squared, distances)


def test_only_the_nearest_are_ordered_anew(own, monkeypatch):
    monkeypatch.setattr(large_refinement, "REORDERED", 30)
    rows = clustered(400)
    asked, parts = queries(rows, own), Rows([rows])
    searched: list[int] = []

    def find(vectors, places, k):
        searched.append(len(vectors))
        return large_search.exact(parts, vectors, places, k)

    found = large_refinement.reranked(find, parts, asked[:1], own[:1], 10)
    plain = large_search.exact(parts, asked[:1], own[:1], 30)
    assert set(found.places[0]) <= set(plain.places[0])
    assert (found.places != plain.places[:, :10]).any() and sum(searched) < 400


@pytest.mark.parametrize("expansion", [Expansion(5), Expansion(10, 3), Expansion(500, 3)])
def test_queries_are_expanded_alike(own, expansion):
    rows = clustered(120)
    asked, parts = queries(rows, own), Rows(np.array_split(rows, 4))
    find = partial(large_search.exact, parts)
    found = large_refinement.asked_again(find, parts, asked, own, expansion)
    tensors = torch.from_numpy(asked), torch.from_numpy(own)
    expected = refinement.asked_again(gallery_of(rows), *tensors, expansion)
    np.testing.assert_array_equal(found, expected.numpy())
