"""Tensor functions that several rooms share."""
import torch


def masked_max(values: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """Maximum over the entries where `mask` holds, the dtype's minimum where there is none."""
    return values.masked_fill(~mask, torch.finfo(values.dtype).min).amax(dim)


def masked_min(values: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """Minimum over the entries where `mask` holds, the dtype's maximum where there is none."""
    return values.masked_fill(~mask, torch.finfo(values.dtype).max).amin(dim)


def log1p_sum_exp(values: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """log(1 + sum of exp(values) where `mask` holds): 0 for an empty set, stable for large values."""
    values = values.masked_fill(~mask, torch.finfo(values.dtype).min)
    zero = torch.zeros_like(values.select(dim, 0)).unsqueeze(dim)
    return torch.logsumexp(torch.cat([values, zero], dim), dim)


def rowwise_kl(first_logits: torch.Tensor, second_logits: torch.Tensor) -> torch.Tensor:
    """KL(softmax(first) || softmax(second)) of each row, [B, C] and [B, C] -> [B]."""
    first, second = first_logits.log_softmax(-1), second_logits.log_softmax(-1)
    return (first.exp() * (first - second)).sum(-1)


def pairwise_distances(embeddings: torch.Tensor) -> torch.Tensor:
    """Euclidean distances of all pairs of rows, [B, D] -> [B, B]; 0 with a finite gradient for equal rows."""
    squared = embeddings.square().sum(-1)
    squared = squared[:, None] + squared[None, :] - 2 * embeddings @ embeddings.T
    positive = squared > 0
    return squared.where(positive, 1.0).sqrt().where(positive, 0.0)


def graph_zero(embeddings: torch.Tensor) -> torch.Tensor:
    """The loss of a batch without a valid pair: 0, with a graph, so that backward() works."""
    return (embeddings * 0).sum()
