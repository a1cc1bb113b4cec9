"""Tensor functions that several rooms share."""
import torch


def pair_masks(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive pairs (same class, not the sample itself) and negative pairs of a batch, [B] -> two bool [B, B]."""
    same = labels[:, None] == labels[None, :]
    return same.clone().fill_diagonal_(False), ~same


def positive_columns(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The positives of each sample as columns: indices [B, K], padded with 0, and which of them are real, bool [B, K].

    K is the largest number of positives, at least 1; classes are small in a batch, so reductions over [B, K] are much cheaper than
    over a masked [B, B].
    """
    positives, _ = pair_masks(labels)
    counts, (rows, columns) = positives.sum(1), positives.nonzero(as_tuple=True)
    ranks = torch.arange(len(rows), device=labels.device) - (counts.cumsum(0) - counts)[rows]
    real = torch.arange(max(1, int(counts.max())), device=labels.device) < counts[:, None]
    return torch.zeros_like(real, dtype=torch.long).index_put((rows, ranks), columns), real


def masked_max(values: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """Maximum over the entries where `mask` holds, the dtype's minimum where there is none."""
    return values.masked_fill(~mask, torch.finfo(values.dtype).min).amax(dim)


def masked_min(values: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """Minimum over the entries where `mask` holds, the dtype's maximum where there is none."""
    return values.masked_fill(~mask, torch.finfo(values.dtype).max).amin(dim)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the entries where `mask` holds; 0 with a graph where there is none."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def masked_logsumexp(values: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """log of the sum of exp(values) where `mask` holds; very small (never -inf) for an empty set."""
    return values.masked_fill(~mask, torch.finfo(values.dtype).min / 2).logsumexp(dim)


def log1p_sum_exp(values: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """log(1 + sum of exp(values) where `mask` holds): 0 for an empty set, stable for large values."""
    return torch.nn.functional.softplus(masked_logsumexp(values, mask, dim), threshold=50)


def informative_pairs(similarities: torch.Tensor, labels: torch.Tensor, margin: float, dim: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair mining of multi-similarity (Wang et al., CVPR 2019, eqs. 8 and 9), [B, B] -> masks of positives and negatives.

    A positive counts if it is less similar than the hardest negative plus the margin, a negative if it is more similar
    than the hardest positive minus the margin.
    """
    positives, negatives = pair_masks(labels)
    hardest_negative = masked_max(similarities, negatives, dim).unsqueeze(dim)
    hardest_positive = masked_min(similarities, positives, dim).unsqueeze(dim)
    return positives & (similarities < hardest_negative + margin), negatives & (similarities > hardest_positive - margin)


def rowwise_kl(first_logits: torch.Tensor, second_logits: torch.Tensor) -> torch.Tensor:
    """KL(softmax(first) || softmax(second)) of each row, [B, C] and [B, C] -> [B]."""
    first, second = first_logits.log_softmax(-1), second_logits.log_softmax(-1)
    return (first.exp() * (first - second)).sum(-1)


def safe_sqrt(squared: torch.Tensor) -> torch.Tensor:
    """Square root of what should not be negative: as good as 0, with gradient 0, where it is not positive."""
    return squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()


def pairwise_distances(embeddings: torch.Tensor) -> torch.Tensor:
    """Euclidean distances of all pairs of rows, [B, D] -> [B, B]; 0 with a finite gradient for equal rows."""
    squared = embeddings.square().sum(-1)
    return safe_sqrt(torch.addmm(squared, embeddings, embeddings.T, alpha=-2) + squared[:, None])


def row_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of each row to its counterpart, [T, D] and [T, D] -> [T]; finite gradient for equal rows."""
    return safe_sqrt((first - second).square().sum(-1))


def graph_zero(embeddings: torch.Tensor) -> torch.Tensor:
    """The loss of a batch without a valid pair: 0, with a graph, so that backward() works."""
    return (embeddings * 0).sum()
