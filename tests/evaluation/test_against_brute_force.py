"""Every metric of a search against plain loops.

Ties, duplicates, lone images, one class, few images, queries and galleries of their own.
"""

import math

import brute_force
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import metrics
from evaluation import neighbours
from evaluation.retrieval import Protocol, per_query

NAMES = (
    "recall@1",
    "recall@3",
    "recall@60",
    "precision@2",
    "precision@60",
    "r_precision",
    "mAP@R",
    "mAP_1000",
    "mAP_lim",
    "mAP",
)
SPACES = {
    False: [name if "recall" not in name else f"e_{name}" for name in NAMES],
    True: [f"c_{name}" for name in NAMES],
}


def check(embeddings, labels, cosine: bool, *, queries=None, gallery=None, **how) -> None:
    everyone = list(range(len(labels)))
    query_places = None if queries is None else torch.tensor(queries)
    gallery_places = None if gallery is None else torch.tensor(gallery)
    found = per_query(
        embeddings.float(),
        Protocol(torch.tensor(labels), None, query_places, gallery_places),
        [metrics.parse(name) for name in SPACES[cosine]],
        **{"memory": 2**26, **how},
    )
    queries = everyone if queries is None else queries
    gallery = everyone if gallery is None else gallery
    hits = brute_force.ranked_hits(embeddings, labels, queries, gallery, cosine)
    for name in SPACES[cosine]:
        np.testing.assert_allclose(
            found[name].numpy(), brute_force.metric(name, hits), rtol=1e-12, atol=0, err_msg=name
        )


@st.composite
def searches(draw):
    """Embeddings, labels, and who searches where.

    Embeddings are small whole numbers, so that distances are exact and many are equal, or any
    half-precision numbers.
    """
    count, dim = draw(st.integers(2, 40)), draw(st.integers(1, 4))
    numbers = st.integers(-2, 2).map(float) if draw(st.booleans()) else st.floats(-4, 4, width=16)
    embeddings = torch.tensor(
        draw(
            st.lists(st.lists(numbers, min_size=dim, max_size=dim), min_size=count, max_size=count)
        ),
        dtype=torch.float16,
    )
    labels = draw(st.lists(st.integers(0, draw(st.integers(0, 8))), min_size=count, max_size=count))
    parts = {}
    if draw(st.booleans()):
        rows = st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True).map(
            sorted
        )
        parts = {"queries": draw(rows), "gallery": draw(rows)}
    return embeddings, labels, parts


@pytest.mark.parametrize("use_faiss", [False, True], ids=["torch", "faiss"])
@pytest.mark.parametrize("cosine", [False, True], ids=["euclidean", "cosine"])
@settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(search=searches(), memory=st.sampled_from([1, 1_190_000, 2**26]))
@example(
    search=(
        torch.tensor([[0, 0, 0], [0, 2, 3.5], [1.5, 3.0332, 0.8262]], dtype=torch.float16),
        [0, 0, 1],
        {},
    ),
    memory=1,
)  # unit vectors, but for a bit
def test_any_search(cosine, use_faiss, search, memory):
    """The memory makes blocks of one query, of a few, and of all."""
    embeddings, labels, parts = search
    check(embeddings, labels, cosine, memory=memory, use_faiss=use_faiss, **parts)


def random_rows(count: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


KINDS = {
    "random": lambda: random_rows(90),
    "copies": lambda: random_rows(5).repeat(18, 1),
    "far from the origin": lambda: random_rows(90) + 30,
    "long and short": lambda: random_rows(90) * torch.logspace(-3, 3, 90)[:, None],
    "nearly the same": lambda: torch.ones(90, 8) + 1e-6 * random_rows(90),
    "all the same": lambda: torch.ones(90, 8),
    "half of them zero": lambda: random_rows(90) * (torch.arange(90) % 2)[:, None],
    "wide": lambda: torch.nn.functional.normalize(random_rows(90, 700), dim=1),
    "a line": lambda: torch.arange(90.0)[:, None],
}


@pytest.mark.parametrize("use_faiss", [False, True], ids=["torch", "faiss"])
@pytest.mark.parametrize("cosine", [False, True], ids=["euclidean", "cosine"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 20])
def test_kinds_of_embeddings(kind, cosine, use_faiss, classes):
    check(KINDS[kind](), [(7 * row) % classes for row in range(90)], cosine, use_faiss=use_faiss)


def test_lists_that_end_among_ties_are_searched_whole(monkeypatch):
    """faiss lists no more than it was asked for.

    Behind equal distances may be others that come first by their row.
    """
    monkeypatch.setattr(neighbours, "SPARE", 2)
    check(torch.ones(40, 2), [row % 3 for row in range(40)], False, use_faiss=True)


@pytest.mark.parametrize("use_faiss", [False, True], ids=["torch", "faiss"])
@pytest.mark.parametrize("kind", ["copies", "all the same", "half of them zero"])
def test_a_crowd_is_ordered_by_row(kind, use_faiss, monkeypatch):
    monkeypatch.setattr(neighbours, "CROWD", 10)
    check(KINDS[kind](), [row % 3 for row in range(90)], False, use_faiss=use_faiss)


@pytest.mark.parametrize("cosine", [False, True], ids=["euclidean", "cosine"])
def test_the_memory_and_the_library_do_not_change_a_digit(cosine):
    """More than 1,000 rows with the rounding of real embeddings.

    They are searched in blocks of all queries, of some, and of one.
    """
    labels = torch.arange(1100) % 40
    rows = torch.nn.functional.normalize(
        random_rows(40, 64)[labels] + 1.5 * random_rows(1100, 64, seed=1), dim=1
    )
    asked = [metrics.parse(name) for name in SPACES[cosine]]
    first, *others = (
        per_query(rows, Protocol(labels), asked, memory=memory, use_faiss=use_faiss)
        for memory, use_faiss in ((2**30, False), (2**22, False), (2**20, False), (2**30, True))
    )
    for name in SPACES[cosine]:
        for other in others:
            assert torch.equal(first[name].nan_to_num(-1), other[name].nan_to_num(-1)), name


def test_superclasses_are_a_relation_of_their_own():
    rows, labels = random_rows(60), torch.arange(60) % 12
    asked = [
        metrics.parse(name) for name in ("superclass_recall@1", "superclass_recall@4", "e_recall@1")
    ]
    found = per_query(rows, Protocol(labels, labels // 4), asked, memory=2**26)
    for name, relation in {
        "superclass_recall@1": labels // 4,
        "superclass_recall@4": labels // 4,
        "e_recall@1": labels,
    }.items():
        hits = brute_force.ranked_hits(rows, relation.tolist(), range(60), range(60), cosine=False)
        assert found[name].tolist() == brute_force.metric(name, hits)


def test_a_query_without_a_gallery_row_of_its_class_is_a_miss_or_skipped():
    found = per_query(
        random_rows(4),
        Protocol(torch.tensor([0, 1, 5, 0]), None, torch.tensor([0, 2]), torch.tensor([1, 3])),
        [metrics.parse(name) for name in ("e_recall@2", "mAP@R", "mAP_1000")],
        memory=2**20,
    )
    assert found["e_recall@2"].tolist() == [1, 0] and found["mAP_1000"][1] == 0
    assert not math.isnan(found["mAP@R"][0]) and math.isnan(found["mAP@R"][1])
