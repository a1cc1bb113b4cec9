"""How evenly the singular values of the embeddings are spread (Roth et al. 2020, Revisiting Training Strategies, eq. 3)."""

import torch

from metrics.retrieval import ROWS_AT_ONCE, EmbeddedSplit


def rho_spectrum(split: EmbeddedSplit, mode: int) -> float:
    """KL(uniform || s) of the singular values s of the embedding matrix, normalised to sum 1: 0 where all directions count alike.

    The first |mode| - 1 values are left out, as the mean direction dominates the first; all min(N,
    D) others count, as in the GPU path of the paper's code (its CPU path drops the smallest). 0
    where fewer than two values are left.
    """
    values = torch.linalg.svdvals(_triangle(split.embeddings))[abs(mode) - 1 :]
    if len(values) < 2:
        return 0.0
    shares = values / values.sum()
    return (
        -shares.clamp(min=torch.finfo(shares.dtype).tiny).log().mean()
        - torch.tensor(len(values), dtype=shares.dtype).log()
    ).item()


def _triangle(rows: torch.Tensor) -> torch.Tensor:
    """A float64 matrix [min(N, D), D] with the singular values of the rows: the triangle of their QR decomposition, block by block."""
    triangle = rows[:0].double()
    for part in rows.split(ROWS_AT_ONCE):
        triangle = torch.linalg.qr(torch.cat([triangle, part.double()]), mode="r").R
    return triangle
