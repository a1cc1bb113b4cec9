"""Which classes neighbours come from, against plain loops."""

from collections import Counter

import numpy as np
import pytest
import torch

from evaluation import Protocol
from evaluation.retrieved_classes import (
    Bar,
    RetrievedClasses,
    bars,
    differences,
    draw,
    retrieved_classes,
)
from utilities.errors import UserError

MEMORY = 2**20


def by_loops(rows, labels, queries, gallery, depth) -> dict[int, dict[int, float]]:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    counts: dict[int, Counter] = {}
    for query in queries:
        others = [row for row in gallery if row != query]
        nearest = sorted(others, key=lambda row: -float(unit[query] @ unit[row]))[:depth]
        counts.setdefault(labels[query], Counter()).update(labels[row] for row in nearest)
    return {
        label: {found: count / counted.total() for found, count in counted.items()}
        for label, counted in counts.items()
    }


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize("memory", [MEMORY, 1])
def test_shares_are_those_of_a_loop(divided, memory):
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(40, 5)).astype(np.float32), random.integers(0, 6, 40)
    queries = np.arange(0, 40, 3) if divided else np.arange(40)
    gallery = np.arange(5, 40) if divided else np.arange(40)
    protocol = Protocol(torch.from_numpy(labels))
    if divided:
        protocol = protocol._replace(
            queries=torch.from_numpy(queries), gallery=torch.from_numpy(gallery)
        )
    found = retrieved_classes(torch.from_numpy(rows), protocol, 4, memory=memory)
    expected = by_loops(rows, labels.tolist(), queries.tolist(), gallery.tolist(), 4)
    assert found.asked.unique().tolist() == sorted(expected)
    for label in range(6):
        assert found.of(label) == pytest.approx(expected.get(label, {}))


def test_a_gallery_smaller_than_the_neighbours_asked_for():
    protocol = Protocol(torch.tensor([0, 0, 1]))
    found = retrieved_classes(torch.eye(3), protocol, 10, memory=MEMORY)
    assert found.of(0) == {0: 0.5, 1: 0.5} and found.of(1) == {0: 1.0}


@pytest.mark.parametrize("depth", [5, 6, 10])
@pytest.mark.parametrize("memory", [2**30, 1], ids=["in one block", "one by one"])
def test_all_of_a_small_gallery_by_queries_inside_and_outside_of_it(depth, memory):
    """One inside has one neighbour fewer; the others lost their last by it."""
    rows = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    labels, gallery, queries = [0, 0, 1, 1, 2, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5], [1, 3, 4, 6, 7, 8]
    protocol = Protocol(
        torch.tensor(labels), queries=torch.tensor(queries), gallery=torch.tensor(gallery)
    )
    found = retrieved_classes(torch.from_numpy(rows), protocol, depth, memory=memory)
    for label, expected in by_loops(rows, labels, queries, gallery, depth).items():
        assert found.of(label) == pytest.approx(expected)


def test_nothing_to_find_is_a_sentence():
    with pytest.raises(UserError, match="nothing to find"):
        retrieved_classes(torch.ones(1, 2), Protocol(torch.tensor([0])), 1, memory=MEMORY)


def of_shares(shares: dict[int, dict[int, float]], classes: int = 4) -> RetrievedClasses:
    pairs = [(asked, found) for asked in sorted(shares) for found in sorted(shares[asked])]
    values = [shares[asked][found] for asked, found in pairs]
    asked, found = map(torch.tensor, zip(*pairs))
    return RetrievedClasses(asked, found, torch.tensor(values, dtype=torch.float64), classes)


FIRST = of_shares({0: {0: 0.5, 1: 0.5}, 1: {1: 1.0}, 3: {0: 0.2, 1: 0.3, 2: 0.5}})
SECOND = of_shares({0: {0: 0.5, 1: 0.5}, 1: {2: 0.75, 3: 0.25}, 3: {0: 0.2, 2: 0.7, 3: 0.1}})


def test_differences():
    assert differences(FIRST, SECOND).tolist() == pytest.approx([0, 1, 0, 0.3])
    assert differences(SECOND, FIRST).tolist() == pytest.approx([0, 1, 0, 0.3])


def test_the_class_itself_comes_first_and_the_rest_last():
    assert bars(FIRST, SECOND, 3, 9) == [
        Bar(3, (0, 0.1)),
        Bar(2, (0.5, 0.7)),
        Bar(1, (0.3, 0)),
        Bar(0, (0.2, 0.2)),
    ]
    *shown, rest = bars(FIRST, SECOND, 3, 2)
    assert [bar.label for bar in shown] == [3, 2] and rest.label == -1
    assert rest.shares == pytest.approx((0.5, 0.2))
    assert bars(FIRST, SECOND, 1, 1)[0] == Bar(1, (1.0, 0.0))


def test_a_figure_of_odd_names(tmp_path):
    names = ["$a_b$ \udcf6", "狗" * 50, "狗" * 51, ""]
    panels = {label: bars(FIRST, SECOND, label, 2) for label in (3, 0, 1)}
    for ending in (".svg", ".png", ".pdf"):
        draw(tmp_path / f"a{ending}", panels, names, ["base", "guided_$1$"])
        assert (tmp_path / f"a{ending}").stat().st_size > 5000
    assert len(list(tmp_path.iterdir())) == 3
