"""Metrics of a search as plain loops over queries and neighbours, in float64."""

import math

import torch


def ranked_hits(embeddings, labels, queries, gallery, cosine: bool) -> list[list[bool]]:
    """For each query: which neighbours, nearest first, share its label.

    Equal distances are ordered by their place in the gallery.
    """
    rows = embeddings.double()
    rows = (torch.nn.functional.normalize(rows, dim=1) if cosine else rows).tolist()
    found = []
    for query in queries:
        others = [row for row in gallery if row != query]
        # Products are rounded to the nearest float64; Python's ** 2 is not always, and the last bit
        # orders equal distances.
        squared = {
            row: sum((a - b) * (a - b) for a, b in zip(rows[query], rows[row])) for row in others
        }
        order = sorted(range(len(others)), key=lambda place: (squared[others[place]], place))
        found.append([labels[others[place]] == labels[query] for place in order])
    return found


def metric(name: str, hits: list[list[bool]]) -> list[float]:
    """The value of each query, nan where it is skipped."""
    base, _, k = (
        name.removeprefix("e_").removeprefix("c_").removeprefix("superclass_").partition("@")
    )
    return [_value(base, k, ranked) for ranked in hits]


def _value(base: str, k: str, ranked: list[bool]) -> float:
    relevant = sum(ranked)
    if base == "recall":
        return float(any(ranked[: int(k)]))
    if base == "precision":
        return sum(ranked[: int(k)]) / int(k)
    limit, divisor = {
        "r_precision": (relevant, relevant),
        "mAP_1000": (1000, relevant + 1),
        "mAP_lim": (1000, min(1000, relevant)),
        "mAP": (relevant, relevant) if k else (len(ranked), relevant),
    }[base]
    if divisor == 0:
        return math.nan
    if base == "r_precision":
        return sum(ranked[:limit]) / divisor
    found, total = 0, 0.0
    for rank, hit in enumerate(ranked[:limit], start=1):
        found += hit
        total += found / rank if hit else 0
    return total / divisor
