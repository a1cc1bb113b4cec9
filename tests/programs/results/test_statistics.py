"""Means and paired differences, beside scipy.stats and by hand."""

import numpy as np
import pytest
from scipy import stats

from programs.results.statistics import paired, spread


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_spread_is_that_of_numpy_and_its_error_that_of_scipy(n):
    values = np.random.default_rng(n).normal(0.6, 0.01, n)
    found = spread(list(values))
    assert found.n == n and found.std is not None
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), values.std(ddof=1)])
    np.testing.assert_allclose(found.std / n**0.5, stats.sem(values))


def test_one_value_has_no_deviation():
    assert spread([0.25]) == (1, 0.25, None)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_paired_interval_is_that_of_the_paired_t_test(n):
    random = np.random.default_rng(n)
    first, second = random.normal(0.6, 0.01, n), random.normal(0.59, 0.02, n)
    found = paired(dict(enumerate(first)), dict(enumerate(second)))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found is not None and found.seeds == tuple(range(n)) and found.interval is not None
    np.testing.assert_allclose(found.mean, (first - second).mean())
    np.testing.assert_allclose(found.interval, [expected.low, expected.high])


def test_pairs_are_of_the_same_seed_only():
    found = paired({10: 0.5, 1: 0.7, 3: 0.9}, {1: 0.5, 2: 0.1, 10: 0.1})
    assert found is not None and found.seeds == (1, 10)
    assert found.mean == pytest.approx((0.2 + 0.4) / 2)


def test_one_pair_has_no_interval_and_none_no_difference():
    found = paired({1: 0.75, 2: 0.5}, {1: 0.5})
    assert found == ((1,), 0.25, None)
    assert paired({1: 0.75}, {2: 0.5}) is None


def test_differences_that_are_all_the_same_have_an_interval_of_a_point():
    found = paired({0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.25})
    assert found is not None and found.interval == (0.25, 0.25)
