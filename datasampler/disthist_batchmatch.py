"""Batches whose distances are distributed as those of a large pool."""

import torch

from datasampler.storage import BatchMatchSampler
from utilities.functional import pairwise_distances

BINS = 50
HISTOGRAM_WEIGHT = 75


class DistHistBatchMatchSampler(BatchMatchSampler):
    """Keeps the one of several random batches whose moments and distances are nearest a pool's.

    The candidates are made of batch_size / samples_per_class random groups of the pool. Their cost
    is

        ||mean - mean_pool|| + ||std - std_pool|| + 75 W1(h, h_pool),

    std per dimension (of the population) and W1 the Wasserstein-1 distance, in units of the
    embeddings, between histograms of all pairwise distances in 50 bins from 0 to the largest
    distance in the pool.

    Source: Roth et al., ICML 2020. Their published code takes the Wasserstein distance between the
    two sets of bin heights, which does not see in which bin a height stands; here it is the one
    between the distributions of distances.
    """

    def costs(self, pool: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        batches = pool[candidates]  # [c, batch_size, D]
        mean_gaps = batches.mean(1) - pool.mean(0)
        std_gaps = batches.std(1, correction=0) - pool.std(0, correction=0)
        moments = mean_gaps.norm(dim=1) + std_gaps.norm(dim=1)
        distances = pairwise_distances(pool)
        pool_distances = upper_triangle(distances)
        batch_distances = upper_triangle(distances[candidates[:, :, None], candidates[:, None, :]])
        largest = pool_distances.max()
        batch_histograms = histograms(batch_distances, largest)
        pool_histogram = histograms(pool_distances[None], largest)
        return moments + HISTOGRAM_WEIGHT * wasserstein(batch_histograms, pool_histogram, largest)


def upper_triangle(matrices: torch.Tensor) -> torch.Tensor:
    """[..., n, n] -> [..., n (n - 1) / 2] entries above the diagonal."""
    rows, columns = torch.triu_indices(matrices.shape[-2], matrices.shape[-1], offset=1)
    return matrices[..., rows, columns]


def histograms(values: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """Shares of each row's values in BINS equal bins from 0 to `largest`, [c, m] -> [c, BINS]."""
    extent = largest.clamp(min=torch.finfo(values.dtype).tiny)
    bins = (values / extent * BINS).long().clamp(max=BINS - 1)
    bins += BINS * torch.arange(len(values))[:, None]  # each row counts in bins of its own
    counts = torch.bincount(bins.ravel(), minlength=BINS * len(values))
    return counts.reshape(-1, BINS) / values.shape[1]


def wasserstein(first: torch.Tensor, second: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """Wasserstein-1 distance of the rows of two tables of histograms, [c, BINS] -> [c].

    The bins reach from 0 to `largest`.
    """
    return (first - second).cumsum(1).abs().sum(1) * largest / BINS
