"""Batches of random classes."""

from collections import Counter

import numpy as np
import pytest

import datasampler
from utilities.errors import UserError

LABELS = np.repeat(np.arange(10), 12)


def sampler(labels=LABELS, batch_size=12, samples_per_class=2, seed=0, **options):
    return datasampler.select(
        "class_random",
        labels,
        batch_size=batch_size,
        samples_per_class=samples_per_class,
        seed=seed,
        **options,
    )


def epoch(chosen, number: int) -> list[list[int]]:
    chosen.set_epoch(number)
    return list(chosen)


@pytest.mark.parametrize("images, batch_size, batches", [(120, 12, 10), (119, 12, 9), (12, 12, 1)])
def test_length(images, batch_size, batches):
    chosen = sampler(LABELS[:images], batch_size)
    drawn = list(chosen)
    assert len(chosen) == len(drawn) == batches
    assert all(len(batch) == batch_size for batch in drawn)


@pytest.mark.parametrize("samples_per_class", [1, 2, 3, 4, 6, 12])
def test_blocks_of_one_class(samples_per_class):
    for batch in sampler(samples_per_class=samples_per_class):
        assert all(type(index) is int and 0 <= index < 120 for index in batch)
        for start in range(0, 12, samples_per_class):
            assert len({LABELS[index] for index in batch[start : start + samples_per_class]}) == 1


def test_labels_in_any_order():
    labels = np.random.default_rng(0).permutation(LABELS)
    for batch in sampler(labels, samples_per_class=3):
        for start in range(0, 12, 3):
            assert len({labels[index] for index in batch[start : start + 3]}) == 1


def test_labels_with_gaps():
    labels = np.array([3] * 5 + [40] * 7)
    drawn = {
        index
        for number in range(20)
        for batch in epoch(sampler(labels, 4), number)
        for index in batch
    }
    assert drawn == set(range(12))


def test_deterministic_per_seed_and_epoch():
    assert epoch(sampler(seed=3), 7) == epoch(sampler(seed=3), 7)
    assert epoch(sampler(seed=3), 7) != epoch(sampler(seed=3), 8)
    assert epoch(sampler(seed=3), 7) != epoch(sampler(seed=4), 7)


def test_an_epoch_does_not_depend_on_the_epochs_before():
    chosen = sampler()
    list(chosen), epoch(chosen, 1), list(chosen)
    assert epoch(chosen, 5) == epoch(sampler(), 5)


def test_the_global_generator_does_not_matter():
    np.random.seed(0)
    first = list(sampler())
    np.random.seed(1)
    assert first == list(sampler())


def test_every_class_and_image_is_drawn_equally_often():
    counts = Counter(
        index for number in range(100) for batch in epoch(sampler(), number) for index in batch
    )
    assert len(counts) == 120
    classes = Counter()
    for index, count in counts.items():
        classes[LABELS[index]] += count
    expected = 100 * 120 / 10
    assert all(abs(count - expected) < 0.15 * expected for count in classes.values())


def test_small_classes_are_drawn_as_often_as_large_ones():
    labels = np.array([0] * 2 + [1] * 98)
    drawn = [
        labels[index]
        for number in range(100)
        for batch in epoch(sampler(labels, 10), number)
        for index in batch
    ]
    assert 0.45 < np.mean(drawn) < 0.55


def test_a_class_with_fewer_images_repeats_them():
    labels = np.array([0, 1, 1, 1, 1, 1, 1, 1])
    batches = [batch for number in range(20) for batch in epoch(sampler(labels, 8, 4), number)]
    assert any(batch[start : start + 4] == [0] * 4 for batch in batches for start in (0, 4))


@pytest.mark.parametrize(
    "split, first_classes, first_draws", [(0.5, 5, 3), (0.2, 2, 1), (0.8, 8, 4)]
)
def test_internal_split_divides_each_batch(split, first_classes, first_draws):
    for number in range(5):
        for batch in epoch(sampler(internal_split=split), number):
            drawn = [LABELS[index] for index in batch[::2]]
            assert all(label < first_classes for label in drawn[:first_draws])
            assert all(label >= first_classes for label in drawn[first_draws:])


def test_internal_split_of_one_draws_from_all():
    drawn = {
        LABELS[index]
        for number in range(5)
        for batch in epoch(sampler(internal_split=1.0), number)
        for index in batch[:2]
    }
    assert drawn == set(range(10))


def test_repeat_half():
    for batch in sampler(repeat_half=True):
        assert len(batch) == 12 and batch[:6] == batch[6:]
        assert all(LABELS[batch[start]] == LABELS[batch[start + 1]] for start in range(0, 12, 2))


def test_too_few_images():
    with pytest.raises(UserError, match="--bs 12.*11"):
        sampler(LABELS[:11])


def test_internal_split_is_what_it_is_in_decimals():
    """As floats 0.29 * 100 is less than 29."""
    labels = np.arange(100)
    chosen = sampler(labels, batch_size=100, samples_per_class=1, internal_split=0.29)
    drawn = np.array([labels[batch] for number in range(20) for batch in epoch(chosen, number)])
    assert drawn[:, :29].max() == 28 and drawn[:, 29:].min() == 29
