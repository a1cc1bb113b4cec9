"""Tensor functions that several rooms share."""

import torch

MASKED_AT_MOST = 2**22  # numbers that are computed though most of them may not count


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Half precision in fp32, everything else as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def require_tensor(name: str, value: object) -> None:
    """Raises TypeError for an array or a list."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(value).__name__}")


def require_places(name: str, places: torch.Tensor, count: int) -> None:
    """Raises ValueError for places that are not from 0 to count - 1, where asking costs no wait.

    A negative one would be counted from the end.
    """
    if not ragged_is_cheap(places) or not len(places):
        return
    least, most = places.min().item(), places.max().item()
    if least < 0 or most >= count:
        raise ValueError(f"expected {name} from 0 to {count - 1}, got {least} to {most}")


def are_whole(numbers: torch.Tensor) -> bool:
    """Whether a tensor's type is of whole numbers."""
    return not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)


def whole_labels(labels: torch.Tensor) -> torch.Tensor:
    """Labels [B] of any type of whole numbers as long; raises ValueError for another type."""
    require_tensor("labels", labels)
    if not are_whole(labels):
        raise ValueError(f"expected labels [B] of whole numbers, got {labels.dtype}")
    return labels.long()


def require_real(embeddings: torch.Tensor) -> None:
    """Raises ValueError for embeddings that are no floating point numbers."""
    require_tensor("embeddings", embeddings)
    if not embeddings.is_floating_point():
        raise ValueError(f"expected embeddings of floating point numbers, got {embeddings.dtype}")


def pair_masks(
    labels: torch.Tensor, anchors: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive and negative pairs of a batch, [B] -> two bool [B, B].

    Positive are two samples of a class, but not a sample with itself; negative are two samples of
    two classes. With `anchors` A, those of the first A samples with all, bool [A, B].
    """
    same = labels[:anchors, None] == labels[None, :]
    return same.clone().fill_diagonal_(False), ~same


def ragged_is_cheap(tensor: torch.Tensor) -> bool:
    """Whether a shape that depends on values may be asked for in a step.

    On the CPU it may, and computing only on what is there is faster. Elsewhere the host would wait
    for the device to learn it, so that the same sums are taken of everything, masked.
    """
    return tensor.device.type == "cpu"


def positive_columns(positives: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The pairs of a mask [B, B] as columns.

    Gives indices [B, K], padded with 0, and which of them are real, bool [B, K]. K is the largest
    number in a row, at least 1. Classes are small in a batch, so reductions over their [B, K] pairs
    are much cheaper than over a masked [B, B].
    """
    counts, (rows, columns) = positives.sum(1), positives.nonzero(as_tuple=True)
    ranks = torch.arange(len(rows), device=positives.device) - (counts.cumsum(0) - counts)[rows]
    real = torch.arange(max(1, int(counts.max())), device=positives.device) < counts[:, None]
    return torch.zeros_like(real, dtype=torch.long).index_put((rows, ranks), columns), real


def pair_columns(pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`positive_columns` in a step; K is B where asking for it would make the step wait."""
    if ragged_is_cheap(pairs):
        return positive_columns(pairs)
    return torch.arange(pairs.shape[1], device=pairs.device).expand_as(pairs), pairs


def listed_pairs(
    pairs: torch.Tensor, width: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The pairs of a mask [A, N], one after the other.

    Gives rows [M], columns [M] and which of them are real, bool [M], or None: all are. They are
    those of the mask, or all of it where counting them would make the step wait; but if those are
    very many a wait costs less.

    Args:
        width: how many numbers will be computed for each pair.
    """
    if ragged_is_cheap(pairs) or pairs.numel() * width > MASKED_AT_MOST:
        rows, columns = pairs.nonzero(as_tuple=True)
        return rows, columns, None
    places, n_columns = torch.arange(pairs.numel(), device=pairs.device), pairs.shape[1]
    return places // n_columns, places % n_columns, pairs.flatten()


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
    """log of the sum of exp(values) where `mask` holds; very small, never -inf, if nowhere."""
    return values.masked_fill(~mask, torch.finfo(values.dtype).min / 2).logsumexp(dim)


def log1p_sum_exp(values: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """log(1 + sum of exp(values) where `mask` holds): 0 if nowhere, stable for large values."""
    return torch.nn.functional.softplus(masked_logsumexp(values, mask, dim), threshold=50)


def rowwise_kl(first_logits: torch.Tensor, second_logits: torch.Tensor) -> torch.Tensor:
    """KL(softmax(first) || softmax(second)) of each row, [B, C] and [B, C] -> [B]."""
    first, second = first_logits.log_softmax(-1), second_logits.log_softmax(-1)
    return (first.exp() * (first - second)).sum(-1)


def safe_sqrt(squared: torch.Tensor) -> torch.Tensor:
    """Square root of what should not be negative.

    Where it is not positive the root is as good as 0 and the gradient is 0.
    """
    return squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()


def pairwise_distances(embeddings: torch.Tensor) -> torch.Tensor:
    """Euclidean distances of all pairs of rows, [B, D] -> [B, B].

    Equal rows are at distance 0 and have a finite gradient.
    """
    squared = embeddings.square().sum(-1)
    return safe_sqrt(torch.addmm(squared, embeddings, embeddings.T, alpha=-2) + squared[:, None])


def row_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of each row to its counterpart, [T, D] and [T, D] -> [T].

    Equal rows have a finite gradient.
    """
    return safe_sqrt((first - second).square().sum(-1))


def told_apart(similarities: torch.Tensor, step: float) -> torch.Tensor:
    """Similarities in float64, to be ranked, in steps of a share of the largest.

    Equal ones become equal: the product of two vectors depends on their place in a matrix, by
    rounding.
    """
    values = similarities.double()
    unit = step * values.abs().amax() if values.any() else values.new_ones(())
    return (values / unit).round() * unit


class Constant:
    """Numbers that are copied to a device once, because that copy makes a step wait."""

    def __init__(self, values: torch.Tensor):
        self.values = values
        self.copies: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def like(self, other: torch.Tensor) -> torch.Tensor:
        """The numbers on the device and in the dtype of another tensor."""
        place = other.device, other.dtype
        if place not in self.copies:
            with torch.inference_mode(False):
                self.copies[place] = self.values.to(*place)
        return self.copies[place]


def graph_zero(embeddings: torch.Tensor) -> torch.Tensor:
    """The loss of a batch without a valid pair: 0, with a graph, so that backward() works."""
    return (embeddings * 0).sum()
