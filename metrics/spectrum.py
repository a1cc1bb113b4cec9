"""How evenly the singular values of the embeddings are spread.

Source: Roth et al., "Revisiting Training Strategies", ICML 2020, eq. 3.
"""

import torch

from metrics.retrieval import ROWS_AT_ONCE, EmbeddedSplit

ROUNDING = 1e-14  # of the sum of the singular values: what float64 leaves where one is 0


def rho_spectrum(split: EmbeddedSplit, mode: int) -> float:
    """KL(uniform || s) of the singular values s of the embeddings: 0 if all directions count alike.

    The values are normalised to sum 1. The first |mode| - 1 values are left out, as the mean
    direction dominates the first; all min(N, D) others count, as in the GPU path of the paper's
    code (its CPU path drops the smallest). 0 where fewer than two values are left. A value of 0, as
    with a feature that is 0 in all images or a combination of others, counts as the rounding that
    is left of it: the divergence itself is infinite.
    """
    every = torch.linalg.svdvals(_triangle(split.embeddings))
    values = torch.where(every > ROUNDING * every.sum(), every, 0)[abs(mode) - 1 :]
    if len(values) < 2:
        return 0.0
    shares = (values / values.sum()).nan_to_num(0)  # of a collapsed space that has none left
    log_shares = shares.clamp(min=ROUNDING).log()
    log_count = torch.tensor(len(values), dtype=shares.dtype).log()
    return (-log_shares.mean() - log_count).item()


def _triangle(rows: torch.Tensor) -> torch.Tensor:
    """[min(N, D), D] float64 with the singular values of the rows [N, D].

    It is the triangle of their QR decomposition, made block by block.
    """
    triangle = rows[:0].double()
    for block in rows.split(ROWS_AT_ONCE):
        triangle = torch.linalg.qr(torch.cat([triangle, block.double()]), mode="r").R
    return triangle
