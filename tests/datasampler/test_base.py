"""Seeded draws from a split ordered by class."""

from collections import Counter

import numpy as np
import pytest

from datasampler.base import draw_distinct, ragged
from datasampler.random import RandomSampler

LABELS = np.random.default_rng(1).permutation(np.repeat([8, 2, 5, 11], [7, 1, 4, 2]))


def sampler(samples_per_class):
    return RandomSampler(LABELS, batch_size=12, samples_per_class=samples_per_class, seed=0)


def test_ragged():
    rows, columns = ragged(np.array([2, 0, 3]))
    assert rows.tolist() == [0, 0, 2, 2, 2] and columns.tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_draws_are_distinct_where_the_count_allows(number):
    counts = np.array([0, 1, 2, 3, 5, 9] * 50)
    drawn = draw_distinct(np.random.default_rng(0), counts, number)
    assert drawn.shape == (300, number)
    assert (drawn >= 0).all() and (drawn < np.maximum(counts, 1)[:, None]).all()
    for row, count in zip(drawn.tolist(), counts):
        assert count < number or len(set(row)) == number


def test_every_set_of_draws_is_equally_likely():
    drawn = draw_distinct(np.random.default_rng(0), np.full(20_000, 5), 2)
    sets = Counter(tuple(sorted(row)) for row in drawn.tolist())
    assert len(sets) == 10 and all(abs(count - 2000) < 200 for count in sets.values())


@pytest.mark.parametrize("samples_per_class", [1, 2, 3, 4, 6])
def test_groups_hold_every_image_of_their_classes(samples_per_class):
    chosen = sampler(samples_per_class)
    groups = chosen.groups(np.random.default_rng(0), np.array([2, 0, 1]))  # labels 8, 2, 5
    sizes = [-(-count // samples_per_class) for count in (7, 1, 4)]
    expected = [
        [label] * samples_per_class for label, size in zip((8, 2, 5), sizes) for _ in range(size)
    ]
    assert [LABELS[group].tolist() for group in groups] == expected
    assert set(groups.ravel()) == set(np.flatnonzero(LABELS != 11))
    for group in groups:
        assert len(set(group)) == min(samples_per_class, (LABELS[group[0]] == LABELS).sum())


@pytest.mark.parametrize("samples_per_class", [1, 2, 3, 5])
def test_classmates_are_others_of_the_class(samples_per_class):
    images = np.tile(np.arange(len(LABELS)), 30)
    drawn = sampler(samples_per_class).with_classmates(np.random.default_rng(0), images)
    assert drawn.shape == (len(images), samples_per_class) and (drawn[:, 0] == images).all()
    assert (LABELS[drawn] == LABELS[images][:, None]).all()
    for image, others in zip(images, drawn[:, 1:].tolist()):
        size = (LABELS[image] == LABELS).sum()
        assert image not in others or size == 1
        assert len(set(others)) == len(others) or size < samples_per_class


def test_all_classmates_are_equally_likely():
    image = np.flatnonzero(LABELS == 8)[3]
    pairs = sampler(2).with_classmates(np.random.default_rng(0), np.full(6000, image))
    drawn = Counter(pairs[:, 1].tolist())
    assert set(drawn) == set(np.flatnonzero(LABELS == 8)) - {image}
    assert all(abs(count - 1000) < 150 for count in drawn.values())
