"""Ranks with a sigmoid in the place of each step, as in Smooth-AP and the recall@k surrogate.

They compare every pair of a query and a positive with the whole batch. That is done in blocks, and
once more for the gradient, so that no more than a block is held of it.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

BLOCK = 2**20  # comparisons at a time


def counted_above(
    embeddings: torch.Tensor,
    queries: torch.Tensor,
    matches: torch.Tensor,
    temperature: float,
    among: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many samples rank above the match of a query, smoothly: two counts [M].

    sum of sigmoid((s_j - s_match) / temperature) with cosine similarities s to the query, over the
    samples j that are neither the query nor the match; then over those that `among` says.

    Args:
        embeddings: [B, D]. queries, matches: [M], rows of them. among: bool [B, B], of a query and
            a sample; None leaves the second count at 0.
    """
    unit = normalize(embeddings, dim=1)
    return _CountedAbove.apply(unit @ unit.T, queries, matches, temperature, among)


class _CountedAbove(torch.autograd.Function):
    """Of similarities [B, B]."""

    @staticmethod
    def forward(
        ctx: Any,
        similarities: torch.Tensor,
        queries: torch.Tensor,
        matches: torch.Tensor,
        temperature: float,
        among: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(similarities, queries, matches, among)
        ctx.temperature = temperature
        counts = similarities.new_zeros(2, len(queries))
        for block in _blocks(len(queries), len(similarities)):
            above = _above(similarities, queries[block], matches[block], temperature)
            counts[0, block] = above.sum(1)
            if among is not None:
                counts[1, block] = above.mul_(among[queries[block]]).sum(1)
        return counts[0], counts[1]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_all: torch.Tensor, of_among: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        similarities, queries, matches, among = ctx.saved_tensors
        gradient = torch.zeros_like(similarities)
        for block in _blocks(len(queries), len(similarities)):
            of_block, to = queries[block], matches[block]
            above = _above(similarities, of_block, to, ctx.temperature)
            slopes = above.mul_(1 - above).div_(ctx.temperature)
            weights = of_all[block, None]
            if among is not None:
                weights = weights + of_among[block, None] * among[of_block]
            slopes *= weights
            gradient.index_add_(0, of_block, slopes)
            gradient.index_put_((of_block, to), -slopes.sum(1), accumulate=True)
        return gradient, None, None, None, None


def _blocks(pairs: int, width: int) -> list[slice]:
    size = max(1, BLOCK // max(1, width))
    return [slice(start, start + size) for start in range(0, pairs, size)]


def _above(
    similarities: torch.Tensor, queries: torch.Tensor, matches: torch.Tensor, temperature: float
) -> torch.Tensor:
    """How much sample j ranks above the match of a query, [m, B] in [0, 1].

    0 for the query and the match themselves.
    """
    gap = similarities[queries]  # a copy
    gap -= similarities[queries, matches, None]
    above = gap.div_(temperature).sigmoid_()
    return above.scatter_(1, torch.stack([queries, matches], dim=1), 0.0)


def one_minus_mean(
    values: torch.Tensor,
    queries: torch.Tensor,
    real: torch.Tensor | None,
    positives: torch.Tensor,
) -> torch.Tensor:
    """1 less the mean over queries of the mean over their positives; 0 where there is none.

    Args:
        values: [M], of pairs of a query and a positive. queries: [M]. real: bool [M], which pairs
            count; None: all. positives: bool [B, B].
    """
    n_positives = positives.sum(1)
    shares = values / n_positives[queries].clamp(min=1)
    total = (shares if real is None else shares.masked_fill(~real, 0.0)).sum()
    n_queries = (n_positives > 0).sum()
    return (1 - total / n_queries.clamp(min=1)) * (n_queries > 0)
