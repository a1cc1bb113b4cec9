"""Batches whose Gaussian is that of a large pool."""

import torch

from datasampler.storage import BatchMatchSampler


class FIDBatchMatchSampler(BatchMatchSampler):
    """Keeps the one of several random batches with the smallest Frechet distance to a pool.

    The candidates are made of batch_size / samples_per_class random groups of the pool. Their cost
    is the distance between Gaussians with the mean and (unbiased) covariance of candidate and pool,

        ||m1 - m2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    Source: Dowson and Landau, 1982; Heusel et al., NeurIPS 2017 (the Frechet inception distance);
    as a batch sampler in Roth et al., ICML 2020.
    """

    def costs(self, pool: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return frechet_distances(pool[candidates], pool)


def frechet_distances(batches: torch.Tensor, pool: torch.Tensor) -> torch.Tensor:
    """Frechet distance between the Gaussians of each batch and of the pool, in double precision.

    [c, B, D] and [n, D] -> [c].
    """
    batches, pool = batches.double(), pool.double()
    means, pool_mean = batches.mean(1, keepdim=True), pool.mean(0)
    # With S1 = A'A and S2 = R'R the trace of (S1 S2)^(1/2) is the sum of the singular values of A
    # R': no matrix root is taken, and covariances without full rank (more dimensions than images)
    # are harmless.
    roots = (batches - means) / max(batches.shape[1] - 1, 1) ** 0.5
    pool_root = torch.linalg.qr((pool - pool_mean) / max(len(pool) - 1, 1) ** 0.5, mode="r").R
    root_traces = torch.linalg.svdvals(roots @ pool_root.T).sum(1)
    traces = roots.square().sum((1, 2)) + pool_root.square().sum() - 2 * root_traces
    return (means.squeeze(1) - pool_mean).square().sum(1) + traces
