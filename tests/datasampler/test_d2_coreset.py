"""D^2 sampling against its formula."""

from collections import Counter

import numpy as np
import pytest
import torch

from datasampler.d2_coreset import D2CoresetSampler, d2_probabilities

POINTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 1.0]])


@pytest.mark.parametrize("d2_lambda", [0.0, 1.0, 5.0])
def test_probabilities_by_hand(d2_lambda):
    # Rows 0 and 1 are drawn, the others are free at squared distances 4, 9 and 2.
    probabilities = d2_probabilities(
        np.array([0.0, 0, 4, 9, 2]), np.array([False, False, True, True, True]), d2_lambda
    )
    np.testing.assert_allclose(
        probabilities,
        [0, 0, *((d2_lambda * d2 / 15 + 1 / 3) / (d2_lambda + 1) for d2 in (4, 9, 2))],
    )


def test_zero_distances_are_uniform():
    np.testing.assert_allclose(
        d2_probabilities(np.zeros(4), np.array([True, False, True, True]), 2.0),
        [1 / 3, 0, 1 / 3, 1 / 3],
    )


@pytest.mark.parametrize("d2_lambda", [0.0, 1.0, 100.0])
def test_draws_follow_the_formula(d2_lambda):
    sampler = D2CoresetSampler(
        np.arange(5), batch_size=3, samples_per_class=1, seed=0, d2_lambda=d2_lambda
    )
    random, draws = np.random.default_rng(0), 6000
    counts = Counter(tuple(sampler.coreset(random, POINTS)) for _ in range(draws))
    squared = (POINTS[:, None] - POINTS).square().sum(2).double().numpy()

    def probability(row, chosen):
        rest = [other for other in range(5) if other not in chosen]
        nearest = {other: min(squared[other, done] for done in chosen) for other in rest}
        return (d2_lambda * nearest[row] / sum(nearest.values()) + 1 / len(rest)) / (d2_lambda + 1)

    total = 0
    for first, second, third in {
        (a, b, c) for a in range(5) for b in range(5) for c in range(5) if len({a, b, c}) == 3
    }:
        expected = probability(second, [first]) * probability(third, [first, second]) / 5
        total += expected
        assert (
            abs(counts[first, second, third] / draws - expected)
            < 5 * (expected / draws) ** 0.5 + 1e-9
        )
    assert total == pytest.approx(1)
