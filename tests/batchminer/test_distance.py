"""Distance-weighted sampling: admissible triplets, draws with the probabilities of the paper."""

import math

import pytest
import torch
from scipy.stats import chisquare

import batchminer
from batchminer import DistanceMiner


def unit(count: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def naive_probabilities(x, y, anchor: int, lower: float, upper: float, form: str) -> list[float]:
    """q(d)^-1 in plain floats, normalised over the anchor's negatives."""
    dim = len(x[0])
    negatives = [j for j in range(len(y)) if y[j] != y[anchor]]
    distance = {j: max(lower, math.dist(x[anchor], x[j])) for j in negatives}
    if form == "textbook":
        near = [j for j in negatives if distance[j] < upper]
        if not near:
            return [(j in negatives) / len(negatives) for j in range(len(y))]
        negatives = near
    weight = {
        j: 1 / (distance[j] ** (dim - 2) * (1 - distance[j] ** 2 / 4) ** ((dim - 3) / 2))
        for j in negatives
    }
    return [weight.get(j, 0.0) / sum(weight.values()) for j in range(len(y))]


@pytest.mark.parametrize("form", ["paper", "textbook"])
@pytest.mark.parametrize(
    "labels", [[0, 0, 1, 1, 2, 2], [5, 9, 5, 9, 9, 1, 1, 30], [0, 1, 2, 3], [0, 0, 0, 7]]
)
def test_triplets_are_admissible(form, labels):
    torch.manual_seed(0)
    labels = torch.tensor(labels)
    for seed in range(20):
        triplets = DistanceMiner(form=form)(unit(len(labels), seed=seed), labels)
        anchors, positives, negatives = triplets.unbind(1)
        assert anchors.tolist() == list(range(len(labels)))
        assert (labels[anchors] == labels[positives]).all()
        assert (labels[anchors] != labels[negatives]).all()
        alone = (labels[:, None] == labels).sum(1) == 1
        assert torch.equal(anchors == positives, alone)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_indices_for_every_number_format(dtype):
    triplets = DistanceMiner()(unit(6).to(dtype).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert (
        triplets.shape == (6, 3) and triplets.dtype == torch.long and triplets.device.type == "cpu"
    )


def test_one_class_has_no_triplets():
    assert DistanceMiner()(unit(4), torch.zeros(4, dtype=torch.long)).shape == (0, 3)
    assert DistanceMiner()(unit(1), torch.tensor([3])).shape == (0, 3)


def test_a_seed_fixes_the_draws():
    labels, draws = torch.arange(40) // 4, []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(DistanceMiner()(unit(40), labels))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_an_own_generator_leaves_the_global_stream_alone():
    miner = DistanceMiner()
    miner.generator = torch.Generator().manual_seed(5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = miner(unit(12), torch.arange(12) // 2)
    assert torch.equal(before, torch.get_rng_state())
    miner.generator.manual_seed(5)
    assert torch.equal(first, miner(unit(12), torch.arange(12) // 2))


@pytest.mark.parametrize("form", ["paper", "textbook"])
@pytest.mark.parametrize("lower, upper", [(0.5, 1.4), (1.0, 1.2)])
def test_weights_are_the_inverse_density(form, lower, upper):
    x, labels = unit(10, seed=4).double(), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    weights = DistanceMiner(lower, upper, form).negative_weights(x, labels[:, None] != labels)
    for anchor in range(10):
        expected = naive_probabilities(x.tolist(), labels.tolist(), anchor, lower, upper, form)
        assert (weights[anchor] / weights[anchor].sum()).tolist() == pytest.approx(
            expected, rel=1e-9
        )


@pytest.mark.parametrize("form", ["paper", "textbook"])
def test_distribution_of_the_draws(form):
    x, labels = unit(9, dim=4, seed=11), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    miner = DistanceMiner(form=form)
    miner.generator = torch.Generator().manual_seed(3)
    rounds = 5000
    drawn = torch.stack([miner(x, labels) for _ in range(rounds)])
    for anchor in (0, 4, 8):
        probabilities = naive_probabilities(x.tolist(), labels.tolist(), anchor, 0.5, 1.4, form)
        counts = drawn[:, anchor, 2].bincount(minlength=9).tolist()
        assert all(
            count == 0 for count, probability in zip(counts, probabilities) if probability == 0
        )
        observed, expected = zip(
            *[(count, rounds * p) for count, p in zip(counts, probabilities) if p > 0]
        )
        if len(observed) > 1:
            assert chisquare(observed, expected).pvalue > 1e-3
        positives = drawn[:, anchor, 1].bincount(minlength=9)
        mates = [j for j in range(9) if labels[j] == labels[anchor] and j != anchor]
        assert chisquare(positives[mates].tolist()).pvalue > 1e-3


def test_the_upper_cutoff_leaves_out_far_negatives_only_in_the_textbook_form():
    x = torch.eye(4)[[0, 0, 1, 2]]
    x[2, :2] = torch.tensor([0.9, math.sqrt(1 - 0.81)])
    labels = torch.tensor([0, 0, 1, 2])
    far = {
        form: DistanceMiner(0.1, 1.0, form)
        .negative_weights(x, labels[:, None] != labels)[0, 3]
        .item()
        for form in ("paper", "textbook")
    }
    assert far["textbook"] == 0 and far["paper"] > 0


def test_far_negatives_are_alike_where_there_are_no_others():
    x, labels = torch.eye(4), torch.tensor([0, 0, 1, 2])
    x[3] *= 2
    weights = DistanceMiner(0.1, 1.0, "textbook").negative_weights(x, labels[:, None] != labels)
    assert weights[0].tolist() == pytest.approx([0, 0, 1, 1])


@pytest.mark.parametrize("farthest", [1.99, 2.0, 30.0], ids=["far", "opposite", "unnormalised"])
@pytest.mark.parametrize("name", ["distance", "rho_distance", "random_distance"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_a_negative_beyond_the_cutoff_takes_no_weight_from_the_others(name, farthest, dtype):
    """In many dimensions 1/q is so large there that beside it all others would be 0."""
    dim, distances = 512, [0.4, 1.0, 1.38, 1.39, farthest]
    x = torch.zeros(1 + len(distances), dim, dtype=dtype)
    x[:, 0] = torch.tensor([0.0, *distances])
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    miner = batchminer.select(name, form="textbook")
    weights = miner.negative_weights(x, labels[:, None] != labels)[0].double()
    expected = naive_probabilities(x.tolist(), labels.tolist(), 0, 0.5, 1.4, "textbook")
    assert (weights / weights.sum()).tolist() == pytest.approx(expected, rel=1e-3, abs=1e-30)
    assert weights[-1] == 0 and (weights[2:-1] > 0).all()


@pytest.mark.parametrize(
    "kind", ["antipodal", "unnormalised", "equal", "zero", "one dimension", "many dimensions"]
)
def test_weights_are_finite_for_any_embeddings(kind):
    row = unit(1)
    x = {
        "antipodal": torch.cat([row, -row] * 3),
        "unnormalised": unit(6) * 100,
        "equal": row.repeat(6, 1),
        "zero": torch.zeros(6, 6),
        "one dimension": torch.ones(6, 1),
        "many dimensions": unit(6, dim=2048),
    }[kind]
    labels = torch.tensor([0, 1, 0, 1, 2, 2])
    weights = DistanceMiner().negative_weights(x, labels[:, None] != labels)
    assert weights.isfinite().all() and (weights.sum(1) > 0).all()
    assert len(DistanceMiner()(x, labels)) == 6


def test_select():
    miner = batchminer.select("distance", lower_cutoff=0.3, upper_cutoff=1.0, form="textbook")
    assert (miner.lower_cutoff, miner.upper_cutoff, miner.form) == (0.3, 1.0, "textbook")
