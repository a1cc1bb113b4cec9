"""What every miner must keep.

The form of the triplets, only admissible ones, every admissible one, seeds, batches without any.
"""

import math
from itertools import permutations, product
from typing import Any

import pytest
import torch

import batchminer
import criteria
from utilities.types import ModelOutput

LIMIT = 20_000  # triplets drawn at most to reach every admissible one
CUTOFFS = {"lower_cutoff": 0.2, "upper_cutoff": 1.1}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("random", {}),
    ("softhard", {}),
    ("intra_random", {}),
    ("lifted", {}),
    ("multisimilarity", {"margin": 0.1}),
    *[("semihard", {"form": form, "margin": 0.3}) for form in ("paper", "textbook")],
    *[("distance", {"form": form, **CUTOFFS}) for form in ("paper", "textbook")],
    *[("rho_distance", {"form": form, "cp": 0.4, **CUTOFFS}) for form in ("paper", "textbook")],
    *[("npair", {"form": form}) for form in ("paper", "mc")],
    *[
        ("parametric", {"mode": mode, "n_support": 10, "support_lim": (0.3, 1.5)})
        for mode in ("uniform", "hards", "semihards", "veryhards")
    ],
    *[
        ("random_distance", {"form": form, "shuffle_labels": shuffle, **CUTOFFS})
        for form in ("paper", "textbook")
        for shuffle in (False, True)
    ],
]
SHOWN = ("form", "mode", "shuffle_labels")
every_variant = pytest.mark.parametrize(
    "name, options",
    [
        pytest.param(
            name,
            options,
            id="-".join([name, *(str(options[key]) for key in SHOWN if key in options)]),
        )
        for name, options in VARIANTS
    ],
)

BATCHES = {
    "balanced": [0, 0, 1, 1, 2, 2],
    "mixed up": [1, 0, 2, 1, 2, 0],
    "unbalanced": [0, 0, 0, 0, 1, 2, 2],
    "not contiguous": [9, 4, 9, 4, 4, 1],
    "two classes": [0, 0, 0, 1, 1, 1],
    "a pair and singletons": [3, 5, 5, 0],
    "one class": [3, 3, 3, 3],
    "all different": [4, 0, 7, 2],
    "two of one class": [1, 1],
    "two of two classes": [0, 1],
    "one sample": [2],
}


def unit(count: int, dim: int = 3, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(
        count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return torch.nn.functional.normalize(rows, dim=1)


def rows(kind: str, count: int) -> torch.Tensor:
    x = unit(count, seed=count).float()
    return {
        "unit": x,
        "duplicates": x[torch.arange(count) // 3],
        "equal": x[:1].repeat(count, 1),
        "antipodal": x[:1] * (1 - torch.arange(count) % 2 * 2)[:, None],
        "huge": x * 1e6,
        "tiny": x * 1e-6,
        "zero": x * 0,
    }[kind]


def label_rule(name: str, options: dict, y: list, a: int, p: int, n: int) -> bool:
    """Whether the labels admit the triplet, whatever the embeddings."""
    if name == "intra_random":
        return len({a, p, n}) == 3 and y[a] == y[p] == y[n]
    if options.get("shuffle_labels"):
        return len({a, p, n}) == 3
    if name == "rho_distance" and a == p:
        return a != n and y[a] == y[n]
    if name == "distance" and y.count(y[a]) == 1:
        return a == p and y[n] != y[a]
    return a != p and y[a] == y[p] != y[n]


def admissible(name: str, options: dict, x: torch.Tensor, y: list) -> set:
    """Every triplet that the miner may draw, by its own rule, in plain loops."""
    everyone, points = range(len(y)), x.tolist()
    d = [[math.dist(first, second) for second in points] for first in points]
    if name == "intra_random":
        return {
            triplet
            for triplet in permutations(everyone, 3)
            if label_rule(name, options, y, *triplet)
        }
    if name == "npair" and options["form"] == "mc":
        paired = [j for j in everyone if y.count(y[j]) > 1]
        return {
            (a, p, n) for a, p, n in product(paired, repeat=3) if a != p and y[a] == y[p] != y[n]
        }
    if options.get("shuffle_labels"):
        fixed = options | {"shuffle_labels": False}
        orders, again = set(permutations(y)), torch.tensor(points)
        return set().union(*(admissible(name, fixed, again, list(order)) for order in orders))
    found = set()
    for a in everyone:
        positives = [j for j in everyone if j != a and y[j] == y[a]]
        negatives = [j for j in everyone if y[j] != y[a]]
        if name == "rho_distance":
            found |= {(a, a, p) for p in positives}
        if name == "distance":
            positives = positives or [a]
        if not positives or not negatives:
            continue
        if name == "semihard":
            power = 2 if options["form"] == "textbook" else 1
            for p in positives:
                near = d[a][p] ** power
                far = near + options["margin"]
                band = [n for n in negatives if near < d[a][n] ** power < far]
                found |= {(a, p, n) for n in band or negatives}
            continue
        if name == "softhard":
            nearest, farthest = min(d[a][n] for n in negatives), max(d[a][p] for p in positives)
            positives = [p for p in positives if d[a][p] > nearest] or positives
            negatives = [n for n in negatives if d[a][n] < farthest] or negatives
        elif name == "parametric":
            negatives = by_bins(options, d[a], negatives)
        elif name == "multisimilarity":
            s = [sum(u * v for u, v in zip(points[a], other)) for other in points]
            hardest_negative = max(s[n] for n in negatives)
            hardest_positive = min(s[p] for p in positives)
            positives = [p for p in positives if s[p] < hardest_negative + options["margin"]]
            negatives = [n for n in negatives if s[n] > hardest_positive - options["margin"]]
        elif options.get("form") == "textbook":  # of the distance miners
            lower, upper = options["lower_cutoff"], options["upper_cutoff"]
            negatives = [n for n in negatives if max(d[a][n], lower) < upper] or negatives
        found |= set(product([a], positives, negatives))
    return found


def by_bins(options: dict, to: list, negatives: list) -> list:
    """Negatives in a bin whose centre the mode names, else those within the limits, else all."""
    low, high = {
        "uniform": (0, math.inf),
        "hards": (0, 0.5),
        "semihards": (0.3, 0.7),
        "veryhards": (0, 0.3),
    }[options["mode"]]
    (start, end), bins = options["support_lim"], options["n_support"] - 1
    width = (end - start) / bins
    inside = [n for n in negatives if start <= to[n] <= end]
    centre = {n: start + (math.floor((to[n] - start) / width) + 0.5) * width for n in inside}
    return [n for n in inside if low <= centre[n] <= high] or inside or negatives


def build(name: str, options: dict, seed: int = 0):
    miner = batchminer.select(name, **options)
    miner.generator = torch.Generator().manual_seed(seed)
    return miner


def test_all_registered_miners_are_here():
    assert {name for name, _ in VARIANTS} == set(batchminer.REGISTRY)


@every_variant
@pytest.mark.parametrize(
    "kind", ["unit", "duplicates", "equal", "antipodal", "huge", "tiny", "zero"]
)
def test_the_labels_admit_every_triplet(name, options, kind):
    miner = build(name, options)
    for labels in [*BATCHES.values(), [0] * 9 + [1, 2, 3] + [7] * 4]:
        for _ in range(10):
            triplets = miner(rows(kind, len(labels)), torch.tensor(labels))
            assert triplets.ndim == 2 and triplets.shape[1] == 3 and triplets.dtype == torch.long
            assert all(label_rule(name, options, labels, *triplet) for triplet in triplets.tolist())


@every_variant
@pytest.mark.parametrize("dim", [2, 4, 64])
def test_the_labels_admit_every_triplet_of_a_row_whose_square_overflows(name, options, dim):
    labels, x = BATCHES["balanced"], unit(6, dim).float()
    x[0] *= 1e20
    miner = build(name, options)
    for _ in range(10):
        assert all(
            label_rule(name, options, labels, *triplet)
            for triplet in miner(x, torch.tensor(labels)).tolist()
        )


@every_variant
@pytest.mark.parametrize("case", BATCHES)
def test_exactly_the_admissible_triplets_are_reached(name, options, case):
    labels, miner = BATCHES[case], build(name, options)
    x = unit(len(labels), seed=3)
    expected, found, drawn, rounds = admissible(name, options, x, labels), set(), 0, 0
    while (found != expected or rounds < 50) and drawn < LIMIT and rounds < LIMIT:
        triplets = miner(x, torch.tensor(labels)).tolist()
        found |= set(map(tuple, triplets))
        assert found <= expected
        drawn, rounds = drawn + len(triplets), rounds + 1
    assert found == expected


@pytest.mark.parametrize("name", ["semihard", "softhard", "multisimilarity", "parametric"])
def test_the_rule_leaves_out_some_triplets(name):
    """The sets above say something only where the rule says more than the labels."""
    options = next(options for other, options in VARIANTS if other == name)
    if name == "parametric":
        options = options | {"mode": "semihards"}
    labels = BATCHES["balanced"]
    by_labels = sum(
        label_rule(name, options, labels, *triplet) for triplet in product(range(6), repeat=3)
    )
    assert 0 < len(admissible(name, options, unit(6, seed=3), labels)) < by_labels


@every_variant
@pytest.mark.parametrize("device", ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_indices_without_gradient_on_the_device_of_the_batch(name, options, device, dtype):
    torch.manual_seed(0)
    labels = torch.arange(12, device=device) // 3
    embeddings = unit(12, dim=5).to(device, dtype).requires_grad_()
    triplets = batchminer.select(name, **options)(embeddings, labels)
    assert triplets.shape == (len(triplets), 3) and len(triplets) > 0
    assert (
        triplets.dtype == torch.long
        and triplets.device == embeddings.device
        and not triplets.requires_grad
    )
    assert all(
        label_rule(name, options, labels.tolist(), *triplet) for triplet in triplets.tolist()
    )


@pytest.mark.parametrize(
    "dtype, computed",
    [
        (torch.float64,) * 2,
        (torch.float32,) * 2,
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_mining_is_done_in_fp32_or_fp64_and_without_a_graph(dtype, computed):
    class Recorder(batchminer.BatchMiner):
        def mine(self, embeddings, labels):
            self.seen = embeddings.dtype, torch.is_grad_enabled()

    recorder = Recorder()
    recorder(unit(4).to(dtype).requires_grad_(), torch.zeros(4, dtype=torch.long))
    assert recorder.seen == (computed, False)


@every_variant
def test_embeddings_and_labels_stay_as_they_are(name, options):
    embeddings, labels = unit(12), torch.arange(12) // 3
    kept = embeddings.clone(), labels.clone()
    build(name, options)(embeddings, labels)
    assert torch.equal(embeddings, kept[0]) and torch.equal(labels, kept[1])


@every_variant
def test_a_seed_fixes_the_draws(name, options):
    labels, drawn = torch.arange(60) // 5, []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(batchminer.select(name, **options)(unit(60), labels))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2]) == (name == "multisimilarity")  # which draws nothing


@every_variant
def test_an_own_generator_leaves_the_global_stream_alone(name, options):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    drawn = [build(name, options, seed=5)(unit(60), torch.arange(60) // 5) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(*drawn)


@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.parametrize(
    "name, options",
    [
        (name, options)
        for name, options in VARIANTS
        if name in ("semihard", "softhard", "distance", "parametric")
    ],
)
def test_a_triplet_per_anchor(name, options, case):
    x = unit(len(BATCHES[case]))
    anchors = build(name, options)(x, torch.tensor(BATCHES[case]))[:, 0].tolist()
    assert anchors == sorted({a for a, _, _ in admissible(name, options, x, BATCHES[case])})


@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.parametrize(
    "name, options",
    [(name, options) for name, options in VARIANTS if name in ("intra_random", "random_distance")],
)
def test_as_many_triplets_as_samples(name, options, case):
    x, labels = unit(len(BATCHES[case])), BATCHES[case]
    some = len(admissible(name, options, x, labels)) > 0
    assert len(build(name, options)(x, torch.tensor(labels))) == some * len(labels)


@pytest.mark.parametrize("labels", [*BATCHES.values(), [0, 0, 0, 1], [i // 6 for i in range(24)]])
def test_random_triplets_are_different_and_as_many_as_there_are_up_to_the_batch(labels):
    available = sum(
        label_rule("random", {}, labels, *triplet)
        for triplet in product(range(len(labels)), repeat=3)
    )
    miner = build("random", {})
    for _ in range(20):
        triplets = miner(unit(len(labels)), torch.tensor(labels)).tolist()
        assert len(triplets) == len(set(map(tuple, triplets))) == min(available, len(labels))


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
def test_lifted_has_every_pair_in_one_call_and_no_triplet_too_many(labels):
    triplets = build("lifted", {})(unit(len(labels)), torch.tensor(labels)).tolist()
    expected = admissible("lifted", {}, unit(len(labels)), labels)
    assert {(a, p) for a, p, _ in triplets} == {(a, p) for a, p, _ in expected}
    assert {(a, n) for a, _, n in triplets} == {(a, n) for a, _, n in expected}
    for a in {a for a, _, _ in expected}:
        kinds = [len({triplet[kind] for triplet in expected if triplet[0] == a}) for kind in (1, 2)]
        assert sum(anchor == a for anchor, _, _ in triplets) == max(kinds)


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
def test_npair_takes_one_positive_and_every_negative(labels):
    triplets = build("npair", {})(unit(len(labels)), torch.tensor(labels)).tolist()
    expected = admissible("npair", {"form": "paper"}, unit(len(labels)), labels)
    assert {(a, n) for a, _, n in triplets} == {(a, n) for a, _, n in expected}
    assert len(triplets) == len({(a, n) for a, _, n in triplets})
    assert len({(a, p) for a, p, _ in triplets}) == len({a for a, _, _ in triplets})


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
def test_npair_mc_takes_one_pair_per_class_and_the_positives_of_the_others(labels):
    triplets = build("npair", {"form": "mc"})(unit(len(labels)), torch.tensor(labels)).tolist()
    positive = {a: p for a, p, _ in triplets}
    paired = {label for label in labels if labels.count(label) > 1}
    classes = paired if len(paired) > 1 else set()
    assert sorted(labels[a] for a in positive) == sorted(classes)
    assert sorted(triplets) == sorted(
        [a, p, q] for a, p in positive.items() for q in positive.values() if q != p
    )


@pytest.mark.parametrize("cp, switched", [(0.0, False), (1.0, True)])
def test_rho_distance_switches_never_or_always(cp, switched):
    triplets = torch.cat(
        [
            build("rho_distance", {"cp": cp}, seed)(unit(8), torch.arange(8) // 2)
            for seed in range(50)
        ]
    )
    assert ((triplets[:, 0] == triplets[:, 1]) == switched).all()


# Objectives: with each miner that they take, on batches in which that miner finds nothing.
NULL_WITHOUT_TRIPLETS = ("triplet", "contrastive", "margin", "snr", "quadruplet")
MINED = {
    name: criterion.MINERS
    for name, criterion in criteria.REGISTRY.items()
    if "miner" in criterion.NEEDS
}


@every_variant
def test_some_batch_has_no_triplet(name, options):
    assert any(
        not admissible(name, options, unit(len(labels)), labels) for labels in BATCHES.values()
    )


@pytest.mark.parametrize(
    "objective, name, options",
    [
        (objective, name, options)
        for objective, takes in MINED.items()
        for name, options in VARIANTS
        if takes is None or name in takes
    ],
)
def test_no_triplet_is_a_loss_with_a_graph(objective, name, options):
    criterion = criteria.select(
        objective, n_classes=10, embed_dim=3, feature_dim=3, miner=build(name, options)
    )
    for labels in BATCHES.values():
        embeddings = unit(len(labels), seed=1).float().requires_grad_()
        if admissible(name, options, embeddings.detach(), labels):
            continue
        loss = criterion(
            ModelOutput(embeddings, embeddings, embeddings[:, :, None, None]), torch.tensor(labels)
        )
        assert loss.shape == () and loss.isfinite()
        loss.backward()
        assert embeddings.grad.isfinite().all()
        if objective in NULL_WITHOUT_TRIPLETS:
            assert loss == 0 and (embeddings.grad == 0).all()


def test_the_objectives_with_loss_zero_are_mined():
    assert set(NULL_WITHOUT_TRIPLETS) < set(MINED)
