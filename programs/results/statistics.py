"""Means over seeds, and differences over pairs of seeds with their interval."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Of some values: how many, their mean, their standard deviation (n - 1; of one: None)."""

    n: int
    mean: float
    std: float | None


class Paired(NamedTuple):
    """A difference to the baseline over the seeds that both have.

    Attributes:
        seeds: of the pairs. mean: of the differences.
        interval: that holds the true mean with CONFIDENCE, if the differences are normally
            distributed; None of one pair.
    """

    seeds: tuple[int, ...]
    mean: float
    interval: tuple[float, float] | None


def spread(values: Sequence[float]) -> Spread:
    """Of one value or more."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(len(values), statistics.fmean(values), std)


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Paired | None:
    """Mean of `values - baseline`, seed by seed, with Student's interval; None without a pair."""
    seeds = tuple(sorted(values.keys() & baseline.keys()))
    if not seeds:
        return None
    n, mean, std = spread([values[seed] - baseline[seed] for seed in seeds])
    if std is None:
        return Paired(seeds, mean, None)
    half = _student(n - 1) * std / math.sqrt(n)
    return Paired(seeds, mean, (mean - half, mean + half))


def _student(freedom: int) -> float:
    """How many standard errors of the mean CONFIDENCE reaches to each side."""
    from scipy.special import stdtrit  # here, because it is slower to load than all else

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
