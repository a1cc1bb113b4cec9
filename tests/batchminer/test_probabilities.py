"""Probabilities of the draws against plain loops.

Chi-squared tests over 10,000 draws with a fixed seed.
"""

import math
from collections import Counter
from itertools import permutations, product

import pytest
import torch
from scipy.stats import chi2, chisquare

import batchminer
from batchminer.base import BatchMiner

DRAWS = 10_000
LABELS = [0, 0, 0, 1, 1, 2, 2, 2]
UNEVEN = [0, 0, 0, 0, 1, 1, 5, 7]


def unit(count: int = 8, dim: int = 4, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(
        count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return torch.nn.functional.normalize(rows, dim=1)


def distances(x: torch.Tensor) -> list[list[float]]:
    return [[math.dist(first, second) for second in x.tolist()] for first in x.tolist()]


def anchors_with_both(y: list):
    """(anchor, its positives, its negatives) where it has both."""
    for a in range(len(y)):
        positives, negatives = (
            [j for j in range(len(y)) if j != a and y[j] == y[a]],
            [j for j in range(len(y)) if y[j] != y[a]],
        )
        if positives and negatives:
            yield a, positives, negatives


def seeded(miner: BatchMiner, seed: int = 0) -> BatchMiner:
    miner.generator = torch.Generator().manual_seed(seed)
    return miner


def draw(name: str, x: torch.Tensor, y: list, **options) -> tuple[Counter, int]:
    """How often each triplet came in about 10,000, and in how many calls."""
    miner, calls = seeded(batchminer.select(name, **options)), DRAWS // len(y)
    return Counter(
        map(tuple, torch.cat([miner(x, torch.tensor(y)) for _ in range(calls)]).tolist())
    ), calls


def agree(found: Counter, expected: dict, groups: int = 1) -> None:
    """Counts against what is expected of them.

    Args:
        expected: mean count of each possible outcome. groups: independent draws, each with a total
            of its own.
    """
    assert set(found) <= {outcome for outcome, mean in expected.items() if mean > 0}
    common = [outcome for outcome, mean in expected.items() if mean >= 5]
    observed, means = (
        [found[outcome] for outcome in common],
        [expected[outcome] for outcome in common],
    )
    rest = sum(expected.values()) - sum(means)
    if rest > 1e-6:
        observed, means = observed + [sum(found.values()) - sum(observed)], means + [rest]
    assert len(means) > groups and sum(means[: len(common)]) > 0.9 * sum(expected.values())
    assert chisquare(observed, means, ddof=groups - 1).pvalue > 1e-4


def test_agree_refuses_other_probabilities():
    expected = {"a": 5000.0, "b": 5000.0, "c": 10000.0}
    agree(Counter(a=5050, b=4990, c=9960), expected)
    for wrong in (Counter(a=5300, b=4700, c=10000), Counter(a=5000, b=5000, d=10000)):
        with pytest.raises(AssertionError):
            agree(wrong, expected)


# The two ways to draw that the miners share.


@pytest.mark.parametrize(
    "weights",
    [
        [1, 1, 1, 1],
        [0, 1, 0, 3, 0, 6, 0],
        [5, 0, 0, 0.1],
        [1e-30, 0, 3e-30, 0, 2e-30],
        [3e30, 0, 1e30, 2e30],
        [1.0, 1e-12, 2.0, 0.0, 1e-12],
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draw_is_proportional_to_the_weights(weights, dtype):
    drawn = seeded(BatchMiner()).draw(torch.tensor(weights, dtype=dtype).expand(DRAWS, -1))
    agree(
        Counter(drawn.tolist()),
        {column: DRAWS * weight / sum(weights) for column, weight in enumerate(weights)},
    )


def test_draw_is_uniform_over_a_mask():
    mask = torch.tensor([False, True, True, False, True, False])
    drawn = seeded(BatchMiner()).draw(mask.expand(DRAWS, -1))
    agree(Counter(drawn.tolist()), dict.fromkeys((1, 2, 4), DRAWS / 3))


def test_draw_takes_each_row_by_its_own_weights():
    weights = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0], [1e-20, 0.0, 1e-20]])
    miner, found = seeded(BatchMiner()), Counter()
    for _ in range(DRAWS // 3):
        found.update(enumerate(miner.draw(weights).tolist()))
    expected = {
        (row, column): DRAWS // 3 * (weights[row, column] / weights[row].sum()).item()
        for row in range(3)
        for column in range(3)
    }
    agree(found, expected, groups=3)


class Fixed(BatchMiner):
    """Draws the same share of everything."""

    def __init__(self, share: float):
        self.share = share

    def uniform(self, count, device):
        return torch.full((count,), self.share, dtype=torch.float64, device=device)


@pytest.mark.parametrize("share", [0.0, math.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float64])
def test_the_ends_of_the_interval_never_reach_a_column_without_weight(share, dtype):
    for weighted in ([1, 3], [2], [0, 4], [4], [0], [1, 2, 3]):
        weights = torch.zeros(1, 5, dtype=dtype)
        weights[0, weighted] = torch.tensor([0.1, 0.7, 1.3])[: len(weighted)].to(dtype)
        assert Fixed(share).draw(weights).item() in weighted


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float64])
def test_rows_without_weight_give_the_first_column(dtype):
    weights = torch.zeros(3, 4, dtype=dtype)
    weights[1, 2] = 1
    assert seeded(BatchMiner()).draw(weights).tolist() == [0, 2, 0]


def test_below_is_uniform():
    miner = seeded(BatchMiner())
    for limit in (1, 2, 7, 100):
        found = Counter(miner.below(torch.full((DRAWS,), limit)).tolist())
        if limit == 1:
            assert found == {0: DRAWS}
        else:
            agree(found, dict.fromkeys(range(limit), DRAWS / limit))


def test_below_reaches_large_ranges_evenly():
    limit = 3 * 2**40
    drawn = seeded(BatchMiner()).below(torch.full((DRAWS,), limit))
    assert drawn.min() >= 0 and drawn.max() < limit
    agree(Counter((drawn // 2**38).tolist()), dict.fromkeys(range(12), DRAWS / 12))
    agree(Counter((drawn % 8).tolist()), dict.fromkeys(range(8), DRAWS / 8))


def test_below_takes_each_limit_by_itself():
    limits = torch.tensor([0, 1, 5, 2, 0])
    drawn = torch.stack([seeded(BatchMiner(), seed).below(limits) for seed in range(200)])
    assert (drawn >= 0).all() and drawn.amax(0).tolist() == [0, 0, 4, 1, 0]
    assert Fixed(math.nextafter(1.0, 0.0)).below(torch.tensor([0, 1, 2**52])).tolist() == [
        0,
        0,
        2**52 - 1,
    ]


# The miners.


@pytest.mark.parametrize("labels", [LABELS, UNEVEN])
@pytest.mark.parametrize("form, power", [("paper", 1), ("textbook", 2)])
def test_semihard(form, power, labels):
    x, margin = unit(seed=2), 0.3
    found, calls = draw("semihard", x, labels, form=form, margin=margin)
    d, expected, banded = distances(x), {}, 0
    for a, positives, negatives in anchors_with_both(labels):
        for p in positives:
            band = [
                n
                for n in negatives
                if d[a][p] ** power < d[a][n] ** power < d[a][p] ** power + margin
            ]
            banded += 0 < len(band) < len(negatives)
            expected |= {
                (a, p, n): calls / len(positives) / len(band or negatives)
                for n in band or negatives
            }
    assert banded > 3
    agree(found, expected, groups=len({a for a, _, _ in expected}))


@pytest.mark.parametrize("labels", [LABELS, UNEVEN])
def test_softhard(labels):
    x = unit(seed=3)
    found, calls = draw("softhard", x, labels)
    d, expected = distances(x), {}
    for a, positives, negatives in anchors_with_both(labels):
        nearest, farthest = min(d[a][n] for n in negatives), max(d[a][p] for p in positives)
        hard = (
            [p for p in positives if d[a][p] > nearest] or positives,
            [n for n in negatives if d[a][n] < farthest] or negatives,
        )
        expected |= {(a, p, n): calls / len(hard[0]) / len(hard[1]) for p, n in product(*hard)}
    agree(found, expected, groups=len({a for a, _, _ in expected}))


def inverse_density(
    to: list, negatives: list, dim: int, lower: float, upper: float, form: str
) -> dict:
    """Probability of each negative."""
    clamped = {n: max(lower, to[n]) for n in negatives}
    if form == "textbook":
        near = {n: distance for n, distance in clamped.items() if distance < upper}
        if not near:
            return {n: 1 / len(negatives) for n in negatives}
        clamped = near
    weights = {
        n: 1 / (distance ** (dim - 2) * (1 - distance**2 / 4) ** ((dim - 3) / 2))
        for n, distance in clamped.items()
    }
    return {n: weight / sum(weights.values()) for n, weight in weights.items()}


@pytest.mark.parametrize("labels", [LABELS, UNEVEN])
@pytest.mark.parametrize("form, cp", [("paper", 0.2), ("textbook", 0.7)])
def test_rho_distance(form, cp, labels):
    x = unit(seed=4)
    found, calls = draw(
        "rho_distance", x, labels, lower_cutoff=0.4, upper_cutoff=1.2, cp=cp, form=form
    )
    d, expected = distances(x), Counter()
    for a, positives, negatives in anchors_with_both(labels):
        for p in positives:
            expected[a, a, p] += calls * cp / len(positives)
            for n, probability in inverse_density(d[a], negatives, 4, 0.4, 1.2, form).items():
                expected[a, p, n] += calls * (1 - cp) / len(positives) * probability
    agree(found, expected, groups=len({a for a, _, _ in expected}))


def test_rho_distance_switches_with_its_probability_where_there_is_no_negative():
    found, calls = draw("rho_distance", unit(4), [0, 0, 0, 0], cp=0.3)
    assert {(a, p, n) for a, p, n in found} == {(a, a, n) for a, n in permutations(range(4), 2)}
    left_out = 4 * calls - sum(found.values())
    assert (
        chisquare([left_out, sum(found.values())], [4 * calls * 0.7, 4 * calls * 0.3]).pvalue > 1e-4
    )


@pytest.mark.parametrize("labels", [LABELS, UNEVEN])
@pytest.mark.parametrize("form", ["paper", "textbook"])
def test_random_distance(form, labels):
    x = unit(seed=5)
    found, calls = draw("random_distance", x, labels, lower_cutoff=0.4, upper_cutoff=1.2, form=form)
    d, usable = distances(x), list(anchors_with_both(labels))
    agree(
        found,
        {
            (a, p, n): calls * len(labels) / len(usable) / len(positives) * probability
            for a, positives, negatives in usable
            for p in positives
            for n, probability in inverse_density(d[a], negatives, 4, 0.4, 1.2, form).items()
        },
    )


def test_random_distance_with_shuffled_labels_treats_all_samples_alike():
    """Equal distances leave every ordered triplet of samples equally likely."""
    x = torch.eye(6, dtype=torch.float64)
    miner = seeded(batchminer.select("random_distance", shuffle_labels=True))
    # One of each call, since the triplets of a call share their labels.
    found = Counter(
        tuple(miner(x, torch.tensor([0, 0, 0, 1, 1, 2]))[0].tolist()) for _ in range(DRAWS // 4)
    )
    agree(found, dict.fromkeys(permutations(range(6), 3), DRAWS / 4 / 120))


def random_triplets(labels: list, calls: int) -> None:
    """Every admissible triplet is equally often among those drawn without replacement."""
    miner, x = seeded(batchminer.select("random")), unit(len(labels))
    admissible = [
        (a, p, n)
        for a, positives, negatives in anchors_with_both(labels)
        for p in positives
        for n in negatives
    ]
    found = Counter(
        map(tuple, torch.cat([miner(x, torch.tensor(labels)) for _ in range(calls)]).tolist())
    )
    assert set(found) <= set(admissible) and sum(found.values()) == calls * len(labels)
    share = len(labels) / len(admissible)
    # Without replacement a count has variance calls share (1 - share) and two of them a small
    # negative covariance.
    statistic = sum((found[triplet] - calls * share) ** 2 for triplet in admissible) / (
        calls * share * (1 - share)
    )
    freedom = len(admissible) - 1
    assert 1e-4 < chi2.sf(statistic * freedom / len(admissible), freedom) < 1 - 1e-4


@pytest.fixture(params=["cpu", "elsewhere"])
def way(request, monkeypatch) -> None:
    """Of choosing random triplets: where a count is known, and where asking for it would wait."""
    if request.param == "elsewhere":
        monkeypatch.setattr("batchminer.random.ragged_is_cheap", lambda tensor: False)


@pytest.mark.usefixtures("way")
def test_random():
    random_triplets([0, 0, 0, 1, 1], DRAWS // 5)


@pytest.mark.usefixtures("way")
def test_random_in_a_batch_with_many_more_triplets_than_wanted():
    labels = [i // 6 for i in range(24)]
    available = 24 * 5 * 18
    assert available > 64 * len(labels)  # drawn with repetition, which is then removed
    random_triplets(labels, DRAWS // 24)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("available, wanted", [(10, 4), (600, 3)])
def test_random_numbers_are_drawn_without_order(available, wanted):
    """First and last are uniform, so that no number comes earlier or more often with another."""
    miner = seeded(batchminer.select("random"))
    draws = [miner.chosen(torch.tensor(available), wanted) for _ in range(DRAWS // 4)]
    chosen = torch.stack([numbers for numbers, _ in draws])
    assert all(real is None or real.all() for _, real in draws)
    assert (chosen.sort(1).values.diff(dim=1) > 0).all()
    for place in (0, wanted - 1):
        agree(
            Counter((chosen[:, place] * 10 // available).tolist()),
            dict.fromkeys(range(10), DRAWS / 40),
        )


@pytest.mark.parametrize("labels", [LABELS, UNEVEN])
def test_npair_positives(labels):
    miner, calls, found = seeded(batchminer.select("npair")), DRAWS // len(labels), Counter()
    for _ in range(calls):
        found.update(map(tuple, miner(unit(), torch.tensor(labels))[:, :2].unique(dim=0).tolist()))
    usable = list(anchors_with_both(labels))
    agree(
        found,
        {(a, p): calls / len(positives) for a, positives, _ in usable for p in positives},
        groups=len(usable),
    )


def test_npair_mc_pairs():
    miner, labels, calls, found = (
        seeded(batchminer.select("npair", form="mc")),
        [2, 0, 2, 0, 1, 2, 5, 5],
        DRAWS // 4,
        Counter(),
    )
    for _ in range(calls):
        found.update(map(tuple, miner(unit(), torch.tensor(labels))[:, :2].unique(dim=0).tolist()))
    sizes = {label: labels.count(label) for label in labels}
    agree(
        found,
        {
            (a, p): calls / (sizes[labels[a]] * (sizes[labels[a]] - 1))
            for a, p in permutations(range(8), 2)
            if labels[a] == labels[p]
        },
        groups=3,
    )


@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 4, 4, 4, 1, 1], [3, 7, 3, 7, 3, 7, 7, 7]])
def test_intra_random_takes_classes_alike_and_then_ordered_triplets_alike(labels):
    found, calls = draw("intra_random", unit(len(labels)), labels)
    sizes = {label: labels.count(label) for label in labels if labels.count(label) > 2}
    expected = {}
    for triplet in permutations(range(len(labels)), 3):
        size = sizes.get(labels[triplet[0]])
        if size and len({labels[j] for j in triplet}) == 1:
            expected[triplet] = calls * len(labels) / len(sizes) / (size * (size - 1) * (size - 2))
    agree(found, expected)


@pytest.mark.parametrize(
    "mode, low, high",
    [("uniform", 0, 9), ("hards", 0, 0.5), ("semihards", 0.3, 0.7), ("veryhards", 0, 0.3)],
)
def test_parametric(mode, low, high):
    # Neighbours on an arc, so that all bands have negatives of some anchors and none of others.
    angles = torch.tensor([0.0, 0.15, 0.4, 0.65, 1.0, 1.3, 2.2, 3.0], dtype=torch.float64)
    x, labels = torch.stack([angles.cos(), angles.sin()], dim=1), [0, 1, 0, 1, 0, 1, 2, 2]
    found, calls = draw("parametric", x, labels, mode=mode, n_support=10, support_lim=(0.1, 1.9))
    d, expected, width = distances(x), {}, 0.2
    for a, positives, negatives in anchors_with_both(labels):
        weights = {}
        for n in negatives:
            centre = 0.1 + (int((d[a][n] - 0.1) / width) + 0.5) * width
            weights[n] = (1 if low <= centre <= high else 1e-15) if 0.1 <= d[a][n] <= 1.9 else 0
        if not any(weights.values()):
            weights = dict.fromkeys(negatives, 1)
        expected |= {
            (a, p, n): calls / len(positives) * weight / sum(weights.values())
            for p in positives
            for n, weight in weights.items()
        }
    agree(found, expected, groups=len({a for a, _, _ in expected}))


def test_parametric_without_a_negative_within_the_limits_takes_all_alike():
    x, labels = unit(), LABELS
    found, calls = draw("parametric", x, labels, support_lim=(5.0, 6.0))
    expected = {
        (a, p, n): calls / len(positives) / len(negatives)
        for a, positives, negatives in anchors_with_both(labels)
        for p in positives
        for n in negatives
    }
    agree(found, expected, groups=8)


@pytest.mark.parametrize(
    "labels", [[0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 1, 1], [3, 3, 3, 1, 1, 1]]
)
def test_lifted_pairs_positives_and_negatives_in_a_random_rotation(labels):
    miner, calls, found = seeded(batchminer.select("lifted")), DRAWS // len(labels), Counter()
    for _ in range(calls):
        pairs = {}
        for a, p, n in miner(unit(len(labels)), torch.tensor(labels)).tolist():
            pairs.setdefault(a, set()).add((p, n))
        found.update((a, frozenset(those)) for a, those in pairs.items())
    expected, alone = Counter(), Counter()
    for a, positives, negatives in anchors_with_both(labels):
        n_p, n_n = len(positives), len(negatives)
        for first, second in product(range(n_p), range(n_n)):
            pairs = {
                (positives[(i + first) % n_p], negatives[(i + second) % n_n])
                for i in range(max(n_p, n_n))
            }
            expected[a, frozenset(pairs)] += calls / (n_p * n_n)
            alone.update({(a, *pair): calls / (n_p * n_n) for pair in pairs})
    assert {round(mean / calls, 9) for mean in alone.values()} == {
        round(max(len(p), len(n)) / (len(p) * len(n)), 9) for _, p, n in anchors_with_both(labels)
    }
    random_anchors = {a for a, _ in expected if sum(other == a for other, _ in expected) > 1}
    assert len(random_anchors) > 0
    agree(found, expected, groups=len({a for a, _ in expected}))
