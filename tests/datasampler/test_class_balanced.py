"""Every image in an epoch, in batches of different classes."""

from collections import Counter

import numpy as np
import pytest

import datasampler


def sampler(labels, batch_size=12, samples_per_class=2, seed=0):
    return datasampler.select(
        "class_balanced",
        labels,
        batch_size=batch_size,
        samples_per_class=samples_per_class,
        seed=seed,
    )


def images(drawn: list[list[int]]) -> list[int]:
    return [index for batch in drawn for index in batch]


def classes(labels, batch, samples_per_class) -> list[int]:
    return labels[batch][::samples_per_class].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_classes_of_whole_groups_come_exactly_once(seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(9), 8))
    drawn = list(sampler(labels, seed=seed))
    assert len(drawn) == 6 and sorted(images(drawn)) == list(range(72))
    assert all(len(set(classes(labels, batch, 2))) == 6 for batch in drawn)


@pytest.mark.parametrize("samples_per_class", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_every_image_and_distinct_classes_with_classes_of_any_size(seed, samples_per_class):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(random.permutation(500)[:30], random.integers(1, 12, 30)))
    chosen = sampler(labels, samples_per_class=samples_per_class, seed=seed)
    drawn = list(chosen)
    groups = -(-np.unique(labels, return_counts=True)[1] // samples_per_class)
    expected = max(-(-groups.sum() // (12 // samples_per_class)), groups.max())
    assert len(chosen) == len(drawn) == expected
    assert set(images(drawn)) == set(range(len(labels)))
    sizes = Counter(labels.tolist())
    for batch in drawn:
        assert len(set(classes(labels, batch, samples_per_class))) == 12 // samples_per_class
        for group in np.reshape(batch, (-1, samples_per_class)).tolist():
            assert len(set(group)) == min(samples_per_class, sizes[labels[group[0]]])


def test_a_class_in_every_batch_is_served_in_time():
    # 10 groups of two classes, 30 in all, 3 in a batch.
    labels = np.repeat(np.arange(8), [20, 20, 4, 4, 4, 4, 2, 2])
    for seed in range(20):
        drawn = list(sampler(labels, 6, seed=seed))
        assert len(drawn) == 10 and sorted(images(drawn)) == list(range(60))
        assert all({0, 1} < set(classes(labels, batch, 2)) for batch in drawn)


def test_a_large_class_makes_the_epoch_longer():
    labels = np.repeat([0, 1, 2, 3], [40, 4, 4, 4])
    drawn = list(sampler(labels, 6))
    assert len(drawn) == 20
    for batch in drawn:
        assert 0 in classes(labels, batch, 2) and len(set(classes(labels, batch, 2))) == 3
    assert sorted(index for index in images(drawn) if index < 40) == list(range(40))


def test_fewer_classes_than_a_batch_takes():
    labels = np.repeat([5, 3], [24, 30])
    drawn = list(sampler(labels))
    assert set(images(drawn)) == set(range(54))
    assert len(drawn) == len(sampler(labels)) == 5
    assert all(Counter(classes(labels, batch, 2)) == {5: 3, 3: 3} for batch in drawn)


def test_one_class():
    drawn = list(sampler(np.full(30, 4)))
    assert len(drawn) == 3 and set(images(drawn)) == set(range(30))


def test_small_and_large_classes_are_mixed_in_time():
    labels = np.repeat(np.arange(60), [2] * 30 + [8] * 30)
    places = []
    for seed in range(40):
        drawn = list(sampler(labels, seed=seed))
        places += [
            place / (len(drawn) - 1)
            for place, batch in enumerate(drawn)
            for label in classes(labels, batch, 2)
            if label < 30
        ]
    assert 0.4 < np.mean(places) < 0.6 and np.mean(np.array(places) < 0.25) > 0.15
