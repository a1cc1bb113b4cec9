"""Greedy k-center against a loop over all pairs."""

import numpy as np
import pytest
import torch

import datasampler
from datasampler.greedy_coreset import k_center


def naive(points, number, first):
    chosen = [first]
    while len(chosen) < number:
        rest = [row for row in range(len(points)) if row not in chosen]
        chosen.append(max(rest, key=lambda row: squared_distance(points, row, chosen)))
    return chosen


def squared_distance(points, row, chosen):
    """To the nearest of the chosen rows."""
    return min(sum((points[row] - points[other]) ** 2) for other in chosen)


@pytest.mark.parametrize("number", [1, 2, 8, 30])
def test_against_a_loop(number):
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(number))
    assert k_center(points, number, first=4) == naive(points.double().numpy(), number, 4)


def test_equal_points_are_chosen_once():
    assert sorted(k_center(torch.ones(6, 2), 6, first=3)) == list(range(6))


def test_batches_cover_well_separated_clusters():
    labels = np.repeat(np.arange(12), 6)
    centres = 100 * torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    chosen = datasampler.select(
        "greedy_coreset", labels, batch_size=24, samples_per_class=2, seed=0
    )
    noise = torch.randn(72, 8, generator=torch.Generator().manual_seed(1))
    chosen.refresh(centres[torch.from_numpy(labels)] + noise)
    for batch in chosen:
        assert sorted(labels[batch[::2]]) == list(range(12)) and len(set(batch)) == 24
