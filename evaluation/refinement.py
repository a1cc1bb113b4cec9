"""A search that is made again with the help of what was found first, all by cosine.

Query expansion asks again with the mean of a query and its nearest: AQE (Chum, Philbin, Sivic,
Isard, Zisserman, ICCV 2007, there of verified results), or alpha-QE, in which each of them counts
by its similarity to the power of alpha (Radenovic, Tolias, Chum, TPAMI 2019). For k-reciprocal
re-ranking see `reranking`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from evaluation.large_search import Found
from evaluation.neighbours import Gallery, nearest
from evaluation.reranking import LISTED, Encodings, Measure, reordered
from metrics import ALPHA_QE, AQE, RERANKED
from utilities import processes


class Expansion(NamedTuple):
    """
    Attributes:
        neighbours: that are added to a query. alpha: 0 counts each as much as the query.
    """

    neighbours: int
    alpha: float = 0


EXPANSIONS = {AQE: Expansion(5), ALPHA_QE: Expansion(10, alpha=3)}


def least_depth(space: str) -> int:
    """How many neighbours a search in a space looks at, whatever is asked."""
    if space in EXPANSIONS:
        return EXPANSIONS[space].neighbours
    return LISTED if space == RERANKED else 1


def expanded(
    queries: torch.Tensor, neighbours: torch.Tensor, similarities: torch.Tensor, alpha: float
) -> torch.Tensor:
    """[Q, D] float32 of length 1: the weighted means of queries [Q, D] and their neighbours.

    Args:
        neighbours: [Q, K, D]. similarities: [Q, K], their cosines; what has none above 0 does not
            count.
    """
    weights = torch.where(similarities > 0, similarities.double() ** alpha, 0)
    others = normalize(neighbours.double(), dim=2)
    own = normalize(queries.double(), dim=1)
    return normalize(own + (weights[:, :, None] * others).sum(1), dim=1).float()


def asked_again(
    gallery: Gallery, queries: torch.Tensor, self_rows: torch.Tensor, expansion: Expansion
) -> torch.Tensor:
    """[Q, D]: the expanded queries of queries [Q, D]."""
    squared, places = nearest_of_all(gallery, queries, self_rows, expansion.neighbours)
    similarities = torch.where(places >= 0, 1 - squared / 2, 0)
    return expanded(queries, gallery.rows[places.clamp(min=0)], similarities, expansion.alpha)


class Reranking:
    """Search in a gallery by `reranking`, whose encodings are made once.

    Args:
        at_once: rows whose neighbours are searched together.
    """

    def __init__(self, gallery: Gallery, at_once: int):
        self.gallery = gallery
        everyone = torch.arange(len(gallery.rows), device=gallery.rows.device)
        mine = everyone[processes.part().rows(len(everyone))]
        parts = [self._near(gallery.rows[part], part, LISTED) for part in mine.split(at_once)]
        of_part = (torch.from_numpy(np.concatenate(each)) for each in zip(*parts))
        near = Found(*(processes.gathered(each, len(everyone)).numpy() for each in of_part))
        self.encodings = Encodings(near, self._measure(gallery.rows))

    def places(self, queries: torch.Tensor, self_rows: torch.Tensor, k: int) -> torch.Tensor:
        """[Q, k] long: the nearest rows of the gallery to queries [Q, D], -1 where there are fewer.

        `self_rows` [Q] as in `Gallery`.
        """
        near, own = self._near(queries, self_rows, max(k, LISTED)), self_rows.cpu().numpy()
        measure = self._measure(queries)
        similar = self.encodings.similar(self.encodings.of_queries(near, own, measure))
        places = reordered(near, own, similar, measure)[:, :k]
        return torch.from_numpy(places).to(queries.device)

    def _near(self, queries: torch.Tensor, self_rows: torch.Tensor, k: int) -> Found:
        near = nearest_of_all(self.gallery, queries, self_rows, k)
        return Found(*(part.cpu().numpy() for part in near))

    def _measure(self, queries: torch.Tensor) -> Measure:
        """Squared distances between some of the queries and rows of the gallery."""

        def measure(of_queries: np.ndarray, places: np.ndarray) -> np.ndarray:
            pairs = (torch.from_numpy(part).to(queries.device) for part in (of_queries, places))
            return self.gallery.distances(queries, *pairs).cpu().numpy()

        return measure


def nearest_of_all(
    gallery: Gallery, queries: torch.Tensor, self_rows: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distances and rows [Q, k] of the nearest, inf and -1 where there are fewer."""
    shape = len(queries), k
    squared = torch.full(shape, torch.inf, dtype=torch.float64, device=queries.device)
    places = torch.full(shape, -1, device=queries.device)
    # A query of the gallery has one neighbour fewer than others have.
    for chosen in ((self_rows >= 0).nonzero()[:, 0], (self_rows < 0).nonzero()[:, 0]):
        if len(chosen) and len(gallery.rows) > int(self_rows[chosen[0]] >= 0):
            found = nearest(gallery, queries[chosen], self_rows[chosen], k)
            columns = torch.arange(found[0].shape[1], device=queries.device)
            squared[chosen[:, None], columns], places[chosen[:, None], columns] = found
    return squared, places
