"""Frechet distances against scipy's matrix root."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from datasampler.fid_batchmatch import FIDBatchMatchSampler, frechet_distances


def naive(batch, pool):
    first, second = np.cov(batch.T), np.cov(pool.T)
    mean_gap = ((batch.mean(0) - pool.mean(0)) ** 2).sum()
    return mean_gap + np.trace(first + second - 2 * sqrtm(first @ second).real)


@pytest.mark.parametrize("size, dimensions", [(40, 3), (24, 8), (24, 2)])
def test_against_the_matrix_root(size, dimensions):
    random = np.random.default_rng(0)
    pool = random.standard_normal((60, dimensions)) * np.linspace(0.2, 2, dimensions)
    batches = np.stack([pool[random.permutation(60)[:size]] for _ in range(5)])
    np.testing.assert_allclose(
        frechet_distances(torch.from_numpy(batches), torch.from_numpy(pool)),
        [naive(batch, pool) for batch in batches],
        atol=1e-8,
    )


def test_more_dimensions_than_images():
    random = np.random.default_rng(0)
    pool, batch = random.standard_normal((30, 50)), random.standard_normal((6, 50))
    # The eigenvalues of S1 S2 are those of a small matrix: no root of a singular one.
    inner = (batch - batch.mean(0)) @ (pool - pool.mean(0)).T / (5 * 29) ** 0.5
    expected = (
        ((batch.mean(0) - pool.mean(0)) ** 2).sum()
        + batch.var(0, ddof=1).sum()
        + pool.var(0, ddof=1).sum()
        - 2 * np.sqrt(np.linalg.eigvalsh(inner @ inner.T).clip(0)).sum()
    )
    assert frechet_distances(
        torch.from_numpy(batch)[None], torch.from_numpy(pool)
    ).item() == pytest.approx(expected, rel=1e-6)


def test_the_same_points_are_at_zero():
    pool = torch.randn(30, 50, generator=torch.Generator().manual_seed(0))
    assert frechet_distances(pool.flip(0)[None], pool).item() == pytest.approx(0, abs=1e-9)


def test_costs_are_those_of_the_candidates():
    pool = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    generators = [torch.Generator().manual_seed(seed) for seed in range(6)]
    candidates = torch.stack([torch.randperm(60, generator=each)[:12] for each in generators])
    sampler = FIDBatchMatchSampler(np.arange(60), batch_size=12, samples_per_class=1, seed=0)
    costs = sampler.costs(pool, candidates)
    expected = [naive(pool[rows].double().numpy(), pool.double().numpy()) for rows in candidates]
    np.testing.assert_allclose(costs, expected, atol=1e-6)
