"""Neighbours and their parts."""

import pytest
import torch

from evaluation import evaluate_embeddings, neighbours
from evaluation.neighbours import Gallery, nearest, smallest, true_places
from metrics import COSINE, EUCLIDEAN

NOBODY = -1


def random_rows(count: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 3, 50, 2000])
@pytest.mark.parametrize("shape", [(1, 2000), (100, 2000)])
def test_the_smallest_values_ascend(shape, count):
    values = random_rows(*shape)
    before = values.clone()
    assert torch.equal(smallest(values, count), values.sort(dim=1).values[:, :count])
    assert torch.equal(values, before)


@pytest.mark.parametrize("least", [-10.0, 0.0, 3.0, 10.0])
@pytest.mark.parametrize("shape", [(1, 50), (40, 1), (40, 50), (0, 50)])
def test_the_places_at_which_a_mask_is_true(shape, least):
    mask = random_rows(*shape) > least
    for found, expected in zip(true_places(mask), mask.nonzero(as_tuple=True)):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("use_faiss", [False, True], ids=["torch", "faiss"])
@pytest.mark.parametrize("space", [EUCLIDEAN, COSINE])
@pytest.mark.parametrize("k", [1, 7, 29, 100])
def test_nearest_of_the_rows_themselves(space, k, use_faiss):
    rows = random_rows(30)
    unit = torch.nn.functional.normalize(rows.double(), dim=1) if space == COSINE else rows.double()
    expected = torch.cdist(unit, unit).fill_diagonal_(torch.inf).sort(dim=1)
    gallery = Gallery(rows, space, depth=k, use_faiss=use_faiss)
    squared, found = nearest(gallery, rows, torch.arange(30), k)
    assert torch.equal(found, expected.indices[:, : min(k, 29)])
    torch.testing.assert_close(squared.sqrt(), expected.values[:, : min(k, 29)])


def test_nearest_of_strangers_finds_all_rows():
    rows, strangers = random_rows(30), random_rows(4, seed=1)
    gallery = Gallery(rows, EUCLIDEAN, depth=40)
    _, found = nearest(gallery, strangers, torch.full((4,), NOBODY), 40)
    expected = torch.cdist(strangers.double(), rows.double()).argsort(dim=1)
    assert found.shape == (4, 30) and torch.equal(found, expected)


@pytest.mark.parametrize("copies", [2, 5, 30, 100])
def test_a_query_never_finds_itself_among_exact_duplicates(copies):
    rows = random_rows(3).repeat(copies, 1)
    _, found = nearest(Gallery(rows, EUCLIDEAN, depth=4), rows, torch.arange(len(rows)), 4)
    for query, others in enumerate(found.tolist()):
        expected = [row for row in range(query % 3, len(rows), 3) if row != query][:4]
        assert others[: len(expected)] == expected and query not in others


@pytest.mark.parametrize("dim", [2, 128, 1024])
@pytest.mark.parametrize("kind", ["random", "constant", "shifted"])
def test_the_doubt_of_a_scan_covers_its_rounding(dim, kind):
    rows = {
        "random": random_rows(120, dim),
        "constant": 0.1 * torch.ones(120, dim) + 1e-4 * random_rows(120, dim),
        "shifted": random_rows(120, dim) + 10,
    }[kind]
    for space in (EUCLIDEAN, COSINE):
        gallery = Gallery(rows, space, depth=120)
        scan = gallery.scan(rows, torch.full((120,), NOBODY))
        pairs = torch.cartesian_prod(torch.arange(120), torch.arange(120))
        exact = gallery.distances(rows, pairs[:, 0], pairs[:, 1]).view(120, 120)
        assert (scan.values + scan.offsets[:, None] - exact).abs().max() * 2 < scan.doubt


@pytest.mark.parametrize("space", [EUCLIDEAN, COSINE])
@pytest.mark.parametrize("kind", ["random", "all but collapsed"])
def test_only_pairs_in_doubt_are_computed_again(monkeypatch, space, kind):
    counts, compute = [], Gallery.distances

    def distances(self, queries, query_places, columns):
        counts.append(len(columns))
        return compute(self, queries, query_places, columns)

    monkeypatch.setattr(Gallery, "distances", distances)
    rows, everyone = random_rows(2000, 64), torch.arange(2000)
    rows = rows if kind == "random" else 1 + 1e-5 * rows
    gallery = Gallery(rows, space, depth=100)
    scan = gallery.scan(rows, everyone)
    sampled = sum(counts)
    # Different ones for each query.
    order = torch.rand(2000, 2000, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    positions = order[:, :200]
    found = neighbours.ranks(gallery, rows, scan, positions, positions != everyone[:, None], 100)
    near = found[found < neighbours.FAR]
    assert len(near) > 1000 and sum(counts) - sampled < 0.05 * len(near)
    assert near.min() >= 1 and near.max() <= 100
    assert (found.diff() > 0).logical_or(found[:, 1:] == neighbours.FAR).all()


def test_the_distances_of_a_collapsed_space_are_computed_once(monkeypatch):
    """Not for each candidate of a query, of which classes of 20 have 19."""
    asked = 0
    distances = Gallery.distances

    def counted(self, queries, query_places, columns):
        nonlocal asked
        asked += len(columns)
        return distances(self, queries, query_places, columns)

    monkeypatch.setattr(Gallery, "distances", counted)
    labels = torch.arange(60) % 3
    values = evaluate_embeddings(torch.ones(60, 4), labels, ["e_recall@1", "mAP"])
    assert asked < 3 * 60 * 60
    # The first row is the nearest of all others, and the second that of the first.
    assert values["e_recall@1"] == pytest.approx(19 / 60)


@pytest.mark.parametrize("space", [EUCLIDEAN, COSINE])
@pytest.mark.parametrize("spread", [0, 1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("count", [70, 200])
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "others"])
def test_a_list_of_faiss_that_ends_within_its_rounding_is_not_taken(
    space, spread, depth, count, is_own
):
    """Also where the query itself is in it, which does not stand at the end of the list."""
    for seed in range(4):
        noise = torch.randn(count, 33, generator=torch.Generator().manual_seed(seed))
        rows = noise[:1] + spread * noise
        own = torch.arange(count) if is_own else torch.full((count,), NOBODY)
        found, expected = (
            nearest(Gallery(rows, space, depth=depth, use_faiss=use_faiss), rows, own, depth)
            for use_faiss in (True, False)
        )
        assert torch.equal(found[1], expected[1]) and torch.equal(found[0], expected[0])
