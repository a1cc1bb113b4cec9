"""Batches of random images."""

import numpy as np
import pytest

import datasampler

LABELS = np.repeat(np.arange(10), 5)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 50])
def test_no_image_twice_in_an_epoch(batch_size):
    sampler = datasampler.select(
        "random", LABELS, batch_size=batch_size, samples_per_class=2, seed=0
    )
    drawn = np.array(list(sampler))
    assert drawn.shape == (50 // batch_size, batch_size) and len(np.unique(drawn)) == drawn.size


def test_samples_per_class_has_no_effect():
    drawn = [
        list(datasampler.select("random", LABELS, batch_size=12, samples_per_class=number, seed=0))
        for number in (1, 2, 12)
    ]
    assert drawn[0] == drawn[1] == drawn[2]
