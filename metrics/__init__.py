"""Retrieval and clustering metrics: pure functions of a `Retrieval`, one file per metric family."""
import re
from collections.abc import Callable
from typing import NamedTuple

from metrics.clustering import nmi, pair_f1
from metrics.mean_average_precision import mean_average_precision
from metrics.recall import recall
from metrics.retrieval import COSINE, EUCLIDEAN, Retrieval
from utilities.report import first_line

__all__ = ["COSINE", "EUCLIDEAN", "Metric", "Retrieval", "parse"]


class Metric(NamedTuple):
    """A metric and what it asks of the retrieval; the search runs once, up to the largest k that is asked."""
    name: str
    compute: Callable[[Retrieval], float]
    space: str | None = None   # in which neighbours are searched, None for no search
    neighbours: int = 0        # how many
    clusters: bool = False     # whether k-means is needed

    @property
    def family(self) -> str:
        """`e_recall` of `e_recall@4`: metrics of a family share a table."""
        return self.name.split("@")[0]


def _recall(space: str) -> Callable[[str, int], Metric]:
    return lambda name, k: Metric(name, lambda retrieval: recall(retrieval, space, k), space, k)


def _map_1000(space: str) -> Callable[[str, int], Metric]:
    return lambda name, _: Metric(name, lambda retrieval: mean_average_precision(retrieval, space, 1000), space, 1000)


REGISTRY: dict[str, Callable[[str, int], Metric]] = {
    "e_recall@K": _recall(EUCLIDEAN),
    "c_recall@K": _recall(COSINE),
    "mAP_1000": _map_1000(EUCLIDEAN),
    "c_mAP_1000": _map_1000(COSINE),
    "nmi": lambda name, _: Metric(name, nmi, clusters=True),
    "f1": lambda name, _: Metric(name, pair_f1, clusters=True),
}


def describe() -> dict[str, str]:
    """What each metric measures, in a line."""
    functions = {"recall": recall, "mAP_1000": mean_average_precision, "nmi": nmi, "f1": pair_f1}
    spaces = {"e_recall@K": " Euclidean.", "c_recall@K": " Cosine.", "mAP_1000": " Euclidean.", "c_mAP_1000": " Cosine."}
    return {name: first_line(functions[re.sub(r"^[ec]_|@K", "", name)]) + spaces.get(name, "") for name in REGISTRY}


def parse(name: str) -> Metric:
    """The metric called `name`, e.g. `e_recall@4`; raises ValueError with the known ones for an unknown name."""
    match = re.fullmatch(r"(.+?)(?:@([1-9]\d*))?", name)
    pattern = f"{match[1]}@K" if match and match[2] else name
    if pattern not in REGISTRY or name.endswith("@K"):
        raise ValueError(f"unknown metric {name!r}; known are {', '.join(REGISTRY)}")
    return REGISTRY[pattern](name, int(match[2] or 0))
