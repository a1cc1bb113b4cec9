"""Query expansion and k-reciprocal re-ranking against plain loops, through every metric of them."""

import math
from functools import cache

import brute_force
import numpy as np
import pytest
import torch

import metrics
from evaluation import evaluate_embeddings, refinement, reranking
from evaluation.retrieval import Protocol, per_query

NAMES = ("recall@1", "recall@4", "mAP@R", "mAP_1000", "mAP")
KINDS = {
    "classes": lambda: clustered(49),
    "random": lambda: torch.randn(49, 6, generator=torch.Generator().manual_seed(0)),
    "copies": lambda: clustered(7).repeat_interleave(7, 0),
    "copies of several classes": lambda: clustered(5).repeat_interleave(12, 0),
    "few": lambda: clustered(9),
    "a pair": lambda: clustered(2),
    "far from the origin": lambda: clustered(49) + 30,
}


def clustered(count: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(7, dim, generator=random)
    return centres[torch.arange(count) % 7] + 0.8 * torch.randn(count, dim, generator=random)


def unit(rows: torch.Tensor) -> list[list[float]]:
    return torch.nn.functional.normalize(rows.double(), dim=1).tolist()


def squared(one: list[float], other: list[float]) -> float:
    return sum((a - b) * (a - b) for a, b in zip(one, other))


def nearest(rows: list[list[float]], query: list[float], among: list[int]) -> list[int]:
    return sorted(among, key=lambda row: (squared(query, rows[row]), row))


def expanded_order(rows, query: int, gallery: list[int], count: int, alpha: float) -> list[int]:
    others = [row for row in gallery if row != query]
    total = list(rows[query])
    for row in nearest(rows, rows[query], others)[:count]:
        similarity = 1 - squared(rows[query], rows[row]) / 2
        weight = similarity**alpha if similarity > 0 else 0
        total = [a + weight * b for a, b in zip(total, rows[row])]
    length = math.sqrt(sum(number * number for number in total))
    return nearest(rows, [number / length for number in total], others)


class Reranked:
    """The paper's formulas with sets and dicts."""

    def __init__(self, rows, gallery: list[int]):
        self.rows, self.gallery = rows, gallery
        self.near, self.reciprocal = cache(self._near), cache(self._reciprocal)
        self.lists = {row: self.near(row) for row in gallery}
        self.plain = {row: self.encoding(row) for row in gallery}
        self.encodings = {row: self.averaged(row) for row in gallery}

    def _near(self, row: int) -> list[int]:
        others = [other for other in self.gallery if other != row]
        return nearest(self.rows, self.rows[row], others)

    def _reciprocal(self, row: int, count: int) -> set[int]:
        """Those that have the row in their lists, too, and itself if it is of the gallery."""
        found = {row} & set(self.gallery)
        for other in self.near(row)[:count]:
            listed = self.lists[other][:count]
            reach = squared(self.rows[other], self.rows[listed[-1]]) if listed else math.inf
            is_short = len(listed) < count
            if row in self.lists:
                is_mutual = row in listed
            else:
                is_mutual = is_short or squared(self.rows[row], self.rows[other]) <= reach
            found |= {other} if is_mutual else set()
        return found

    def encoding(self, row: int) -> dict[int, float]:
        inside = self.reciprocal(row, reranking.LISTED)
        grown = set(inside)
        for member in inside:
            smaller = self.reciprocal(member, reranking.LISTED // 2)
            if len(smaller & inside) > 2 / 3 * len(smaller):
                grown |= smaller
        weights = {
            other: math.exp(-squared(self.rows[row], self.rows[other]) / 2) for other in grown
        }
        return {other: weight / sum(weights.values()) for other, weight in weights.items()}

    def averaged(self, row: int) -> dict[int, float]:
        own = self.plain[row] if row in self.plain else self.encoding(row)
        near = [self.plain[other] for other in self.near(row)[: reranking.AVERAGED - 1]]
        total: dict[int, float] = {}
        for encoding in (own, *near):
            for other, weight in encoding.items():
                total[other] = total.get(other, 0) + weight / (1 + len(near))
        return total

    def order(self, query: int) -> list[int]:
        own = self.averaged(query)

        def distance(row: int) -> float:
            other = self.encodings[row]
            both = own.keys() | other.keys()
            least = sum(min(own.get(key, 0), other.get(key, 0)) for key in both)
            most = sum(max(own.get(key, 0), other.get(key, 0)) for key in both)
            plain = squared(self.rows[query], self.rows[row]) / 2
            share = reranking.DISTANCE_SHARE
            # Sums of floats in another order may end in another last bit.
            return round(share * plain + (1 - share) * (1 - least / most), 12)

        others = [row for row in self.gallery if row != query]
        return sorted(others, key=lambda row: (distance(row), row))


def orders(space: str, rows, queries: list[int], gallery: list[int]) -> list[list[int]]:
    if space == metrics.RERANKED:
        reranked = Reranked(rows, gallery)
        return [reranked.order(query) for query in queries]
    expansion = refinement.EXPANSIONS[space]
    return [expanded_order(rows, query, gallery, *expansion) for query in queries]


@pytest.mark.parametrize("space", [metrics.AQE, metrics.ALPHA_QE, metrics.RERANKED])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_divided", [False, True], ids=["all", "queries and gallery"])
def test_metrics_are_those_of_plain_loops(space, kind, is_divided):
    embeddings = KINDS[kind]()
    count = len(embeddings)
    labels = [row % 7 if kind != "copies" else row // 14 for row in range(count)]
    queries = gallery = list(range(count))
    if is_divided:  # some of the queries lie in the gallery
        queries, gallery = queries[: count // 2 + 1], gallery[count // 3 :]
    places = (torch.tensor(queries), torch.tensor(gallery)) if is_divided else (None, None)
    protocol = Protocol(torch.tensor(labels), None, *places)
    wanted = [metrics.parse(f"{space}_{name}") for name in NAMES]
    hits = [
        [labels[row] == labels[query] for row in order]
        for query, order in zip(queries, orders(space, unit(embeddings), queries, gallery))
    ]
    ways = [(False, 2**26), (True, 1)] if kind == "classes" else [(is_divided, 2**26)]
    for use_faiss, memory in ways:
        found = per_query(embeddings, protocol, wanted, memory=memory, use_faiss=use_faiss)
        for name in NAMES:
            np.testing.assert_allclose(
                found[f"{space}_{name}"].numpy(), brute_force.metric(name, hits), err_msg=name
            )


def test_what_was_found_first_helps_among_classes_that_overlap():
    labels = np.arange(280) % 7
    values = evaluate_embeddings(clustered(280), labels, ["c_mAP@R", "aqe_mAP@R", "rerank_mAP@R"])
    assert values["rerank_mAP@R"] > values["aqe_mAP@R"] > values["c_mAP@R"]


def test_pairs_are_looked_at_in_parts(monkeypatch):
    labels = torch.arange(70) % 7
    whole = evaluate_embeddings(clustered(70), labels, ["rerank_mAP"])
    monkeypatch.setattr(reranking, "PAIRS_AT_ONCE", 300)
    assert evaluate_embeddings(clustered(70), labels, ["rerank_mAP"]) == whole
