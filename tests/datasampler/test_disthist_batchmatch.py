"""Costs of the candidates against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import wasserstein_distance

from datasampler.disthist_batchmatch import DistHistBatchMatchSampler, histograms, wasserstein


def naive_cost(batch, pool):
    largest, centres = pdist(pool).max(), np.arange(50) + 0.5
    heights = [
        np.histogram(pdist(points), bins=50, range=(0, largest))[0] for points in (batch, pool)
    ]
    places = centres * largest / 50
    mean_gap = np.linalg.norm(batch.mean(0) - pool.mean(0))
    std_gap = np.linalg.norm(batch.std(0) - pool.std(0))
    return mean_gap + std_gap + 75 * wasserstein_distance(places, places, heights[0], heights[1])


@pytest.mark.parametrize("scale", [0.1, 1, 10])
def test_costs(scale):
    random = np.random.default_rng(0)
    pool = scale * random.standard_normal((60, 5))
    candidates = np.stack([random.permutation(60)[:12] for _ in range(8)])
    sampler = DistHistBatchMatchSampler(np.arange(60), batch_size=12, samples_per_class=1, seed=0)
    costs = sampler.costs(torch.from_numpy(pool), torch.from_numpy(candidates))
    expected = [naive_cost(pool[rows], pool) for rows in candidates]
    np.testing.assert_allclose(costs, expected, rtol=1e-5)


def test_the_whole_pool_costs_nothing():
    pool = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    sampler = DistHistBatchMatchSampler(np.arange(20), batch_size=20, samples_per_class=1, seed=0)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert sampler.costs(pool, order[None]).item() == pytest.approx(0, abs=1e-5)


def test_the_place_of_a_bin_matters():
    largest = torch.tensor(5.0)
    near, middle, far = histograms(torch.tensor([[0.05], [2.55], [5.0]]), largest)
    assert wasserstein(near[None], middle[None], largest).item() == pytest.approx(2.5)
    assert wasserstein(near[None], far[None], largest).item() == pytest.approx(4.9)
