"""What images of a batch have in common by language: (labels, indices) -> similarities [B, B].

They are made anew from texts or files, so that a checkpoint does without them.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import embedding, normalize

from language_guidance.text_bank import TextBank
from utilities.functional import require_places, require_tensor


def text_similarities(units: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
    """G = (1/k) sum_r <l(., r), l(., r)>: unit text vectors [B, k, E] -> similarities [B, B].

    Args:
        shares: [B, k], of the ranks of each sample, summing to 1; their geometric mean over two
            samples takes the place of 1/k, so that a sample is as similar to itself as ever.
    """
    if shares is not None:
        rows = (units * shares.sqrt()[:, :, None]).flatten(1)
        return rows @ rows.T
    rows = units.flatten(1)  # the sum over ranks is one product of longer rows
    return rows @ rows.T / units.shape[1]


def _sum_to_one(shares: torch.Tensor) -> bool:
    """Whether shares [C, k] are those of a whole, up to the rounding of half precision."""
    return bool((shares >= 0).all() and ((shares.double().sum(1) - 1).abs() < 1e-2).all())


class Source(nn.Module):
    """Similarities of the samples of a batch; a module, so that its tensors follow its guide."""

    def forward(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """[B, B], of labels [B] and positions in the training split [B]."""
        raise NotImplementedError


class TextSource(Source):
    """A source that has vectors of texts."""

    @property
    def text_dim(self) -> int:
        """E of `vectors`."""
        raise NotImplementedError

    def vectors(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """[B, E]: the mean of the unit vectors of each sample's texts."""
        raise NotImplementedError


class BankSimilarities(TextSource):
    """Mean over the ranks of the cosines of two classes' texts, or of two images'.

    Raises:
        TypeError: vectors or an assignment that are no tensors.
        ValueError: a bank of other shapes, an assignment of texts that there are not, shares that
            are negative or sum to something else than 1. In a call: labels, or positions of
            images, that there are not, where asking costs no wait.
    """

    units: torch.Tensor  # [T, E], the unit vectors of the bank
    assignment: torch.Tensor  # [C, k] or [N, k]
    shares: torch.Tensor | None

    def __init__(self, bank: TextBank):
        super().__init__()
        require_tensor("vectors", bank.vectors)
        require_tensor("assignment", bank.assignment)
        if bank.vectors.ndim != 2 or bank.assignment.ndim != 2:
            raise ValueError(
                "expected vectors [T, E] and an assignment [C, k], got "
                f"{tuple(bank.vectors.shape)} and {tuple(bank.assignment.shape)}"
            )
        if bank.shares is not None and bank.shares.shape != bank.assignment.shape:
            raise ValueError(
                f"expected shares {tuple(bank.assignment.shape)}, got {tuple(bank.shares.shape)}"
            )
        require_places("an assignment of texts", bank.assignment, len(bank.vectors))
        if bank.shares is not None and not _sum_to_one(bank.shares):
            raise ValueError("expected shares of at least 0 that sum to 1 in each row")
        self.by_image = bank.by_image
        self.register_buffer("units", normalize(bank.vectors, dim=-1), persistent=False)
        self.register_buffer("assignment", bank.assignment, persistent=False)
        self.register_buffer("shares", bank.shares, persistent=False)

    def forward(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        rows = self.rows(labels, indices)
        shares = None if self.shares is None else self.shares[rows]
        return text_similarities(embedding(self.assignment[rows], self.units), shares)

    def rows(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """[B], of the assignment."""
        if not self.by_image:
            require_places("labels", labels, len(self.assignment))
            return labels
        require_tensor("positions of images", indices)
        if indices.shape != labels.shape:
            raise ValueError(
                f"expected positions of images {tuple(labels.shape)}, got {tuple(indices.shape)}"
            )
        require_places("positions of images", indices, len(self.assignment))
        return indices

    @property
    def text_dim(self) -> int:
        return self.units.shape[1]

    def vectors(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        rows = self.rows(labels, indices)
        units = embedding(self.assignment[rows], self.units)
        if self.shares is None:
            return units.mean(1)
        return (units * self.shares[rows][:, :, None]).sum(1)


class MatrixSimilarities(Source):
    """Similarities that are given, [U, U], of classes or of names that classes share.

    Args:
        rows: [C] long, the row of each class; by default that of its label.
    """

    matrix: torch.Tensor
    rows: torch.Tensor | None

    def __init__(self, matrix: torch.Tensor, rows: torch.Tensor | None = None):
        super().__init__()
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"expected similarities [C, C], got {tuple(matrix.shape)}")
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        require_places("labels", labels, len(self.matrix if self.rows is None else self.rows))
        rows = labels if self.rows is None else self.rows[labels]
        return self.matrix[rows[:, None], rows]


class Unrelated(Source):
    """Classes that have nothing in common, as one-hot vectors have: a control."""

    def forward(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return (labels[:, None] == labels).float()


class Blend(TextSource):
    """The mean of several sources by shares, which sum to 1; their texts are of one encoder.

    Raises:
        ValueError: shares that are negative or sum to something else.
    """

    def __init__(self, sources: Sequence[TextSource], shares: Sequence[float]):
        super().__init__()
        if len(sources) != len(shares) or abs(sum(shares) - 1) > 1e-6 or min(shares) < 0:
            raise ValueError(f"expected a share of each source, summing to 1, got {list(shares)}")
        self.sources = nn.ModuleList(sources)  # which registers them
        self.shared = list(zip(shares, sources))

    def forward(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return torch.stack([share * part(labels, indices) for share, part in self.shared]).sum(0)

    @property
    def text_dim(self) -> int:
        return self.shared[0][1].text_dim

    def vectors(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        means = [share * part.vectors(labels, indices) for share, part in self.shared]
        return torch.stack(means).sum(0)
