"""Batches of random images, each with a partner."""

from collections import Counter

import numpy as np
import pytest

import datasampler
from utilities.errors import UserError

LABELS = np.random.default_rng(0).permutation(np.repeat([4, 9, 1, 6], [30, 12, 1, 2]))


def pairs(epochs=50, samples_per_class=3):
    chosen = datasampler.select(
        "semi_class_random", LABELS, batch_size=12, samples_per_class=samples_per_class, seed=0
    )
    drawn = []
    for number in range(epochs):
        chosen.set_epoch(number)
        drawn.extend(chosen)
    return np.array(drawn).reshape(-1, 2)


def test_partners_are_other_images_of_the_class():
    first, second = pairs().T
    assert (LABELS[first] == LABELS[second]).all()
    assert ((first != second) | (LABELS[first] == 1)).all()


def test_every_image_comes_first_equally_often():
    first = Counter(pairs(400)[:, 0].tolist())
    expected = 400 * 3 * 6 / len(LABELS)
    assert len(first) == len(LABELS)
    assert all(abs(count - expected) < 0.4 * expected for count in first.values())


def test_samples_per_class_has_no_effect():
    assert (pairs(samples_per_class=1) == pairs(samples_per_class=4)).all()


def test_an_odd_batch_size_is_refused():
    with pytest.raises(UserError, match="--bs 7 must be even"):
        datasampler.select("semi_class_random", LABELS, batch_size=7, samples_per_class=1, seed=0)
