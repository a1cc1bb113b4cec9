"""Metrics of clusters and of geometry against plain loops; their names.

They are held against pytorch-metric-learning where both define the same.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

import metrics
from evaluation import Protocol, evaluate_embeddings
from metrics import (
    ALL,
    COSINE,
    EUCLIDEAN,
    UP_TO_RELEVANT,
    EmbeddedSplit,
    Retrieval,
    semantics,
    spectrum,
)
from metrics import retrieval as values_read


def data(
    count: int, classes: int, seed: int = 0, dim: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=random)
    centres = torch.randn(classes, dim, generator=random)
    return centres[labels] + 0.9 * torch.randn(count, dim, generator=random), labels


def value(name: str, embeddings, labels, **split) -> float:
    return float(metrics.parse(name).compute(EmbeddedSplit(labels, embeddings, **split)))


def naive_f1(labels, clusters) -> float:
    both = only_class = only_cluster = 0
    for i, j in itertools.combinations(range(len(labels)), 2):
        one_class, one_cluster = labels[i] == labels[j], clusters[i] == clusters[j]
        both += bool(one_class and one_cluster)
        only_class += bool(one_class and not one_cluster)
        only_cluster += bool(one_cluster and not one_class)
    if not both + only_class + only_cluster:
        return 0.0
    return 2 * both / (2 * both + only_class + only_cluster)


def cosine_distance(first, second) -> float:
    first, second = first.double().tolist(), second.double().tolist()
    return 1 - sum(a * b for a, b in zip(first, second)) / math.hypot(*first) / math.hypot(*second)


def mean(numbers) -> float:
    numbers = list(numbers)
    return sum(numbers) / len(numbers) if numbers else 0.0


def naive_intra(embeddings, labels) -> float:
    class_means = []
    for name in labels.unique():
        rows = [row for row, label in zip(embeddings, labels) if label == name]
        pairs = list(itertools.combinations(rows, 2))
        if pairs:
            class_means.append(mean(cosine_distance(*pair) for pair in pairs))
    return mean(class_means)


def naive_inter(embeddings, labels) -> float:
    means = [embeddings[labels == name].double().mean(0) for name in labels.unique()]
    return mean(cosine_distance(*pair) for pair in itertools.combinations(means, 2))


@pytest.mark.parametrize(
    "labels, clusters",
    [
        ([0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 2, 0]),
        ([0, 0, 0], [0, 0, 0]),
        ([0, 1, 2], [0, 1, 2]),
        ([4, 4, 9], [1, 0, 1]),
    ],
)
@pytest.mark.parametrize("prefix, space", [("", EUCLIDEAN), ("c_", COSINE)])
def test_clusters_against_loops_and_scikit_learn(prefix, space, labels, clusters):
    references = {
        "f1": naive_f1,
        "nmi": normalized_mutual_info_score,
        "ami": adjusted_mutual_info_score,
    }
    rows, assignments = torch.zeros(len(labels), 1), {space: torch.tensor(clusters)}
    for name, reference in references.items():
        found = value(prefix + name, rows, torch.tensor(labels), clusters=assignments)
        assert found == pytest.approx(reference(labels, clusters), abs=1e-12)


def test_nmi_from_its_definition():
    labels, clusters = [0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 2, 0]

    def entropy(parts) -> float:
        shares = [parts.count(part) / len(parts) for part in set(parts)]
        return -sum(share * math.log(share) for share in shares)

    mutual = entropy(labels) + entropy(clusters) - entropy(list(zip(labels, clusters)))
    assignments = {EUCLIDEAN: torch.tensor(clusters)}
    found = value("nmi", torch.zeros(7, 1), torch.tensor(labels), clusters=assignments)
    assert found == pytest.approx(2 * mutual / (entropy(labels) + entropy(clusters)))


@pytest.mark.parametrize("count, classes", [(40, 6), (30, 25), (5, 1), (1, 1), (6, 50)])
def test_distances_within_and_between_classes(count, classes):
    embeddings, labels = data(count, classes)
    within, between = naive_intra(embeddings, labels), naive_inter(embeddings, labels)
    assert value("dists@intra", embeddings, labels) == pytest.approx(within, abs=1e-9)
    assert value("dists@inter", embeddings, labels) == pytest.approx(between, abs=1e-9)
    ratio = within / between if between else 0
    assert value("dists@intra_over_inter", embeddings, labels) == pytest.approx(ratio, abs=1e-9)


@pytest.mark.parametrize("mode", [1, 2, 3, -2, 99])
@pytest.mark.parametrize("count, dim", [(50, 6), (4, 9)])
def test_rho_spectrum(count, dim, mode):
    embeddings, labels = data(count, 3, dim=dim)
    singular = np.linalg.svd(embeddings.double().numpy(), compute_uv=False)[abs(mode) - 1 :]
    shares = singular / singular.sum() if len(singular) > 1 else []
    expected = sum(math.log(1 / len(shares) / share) / len(shares) for share in shares)
    found = value(f"rho_spectrum@{mode}@embeds", embeddings, labels)
    assert found == pytest.approx(expected, abs=1e-9)


def test_rho_spectrum_of_a_lower_rank_depends_on_no_rounding():
    """A dead feature, one that is there twice, and the same images in another order."""
    embeddings, labels = data(50, 3, dim=6)
    embeddings[:, 0] = 0
    found = value("rho_spectrum@1@embeds", embeddings, labels)
    singular = np.linalg.svd(embeddings[:, 1:].double().numpy(), compute_uv=False)
    shares = [*(singular / singular.sum()), 1e-14]
    assert found == pytest.approx(np.mean(-np.log(shares)) - math.log(6), abs=1e-9)
    embeddings[:, 0] = embeddings[:, 1]
    twice = value("rho_spectrum@1@embeds", embeddings, labels)
    assert twice == pytest.approx(found, abs=0.1)
    turned = value("rho_spectrum@1@embeds", embeddings.flip(0), labels)
    assert turned == pytest.approx(twice, abs=1e-9)


@pytest.mark.parametrize("rank, left_out", [(0, 1), (1, 1), (1, 2), (2, 2), (2, 3)])
def test_rho_spectrum_of_a_collapsed_space_is_that_of_directions_without_spread(rank, left_out):
    """Where the values that are left out are all there is, and those left are rounding."""
    generator = torch.Generator().manual_seed(rank)
    factors = (
        torch.randint(-4, 5, shape, generator=generator) for shape in ((50, rank), (rank, 6))
    )
    embeddings = torch.mm(*(factor.float() for factor in factors))
    name = f"rho_spectrum@{left_out + 1}@embeds"
    found = value(name, embeddings, torch.arange(50) % 3)
    assert found == pytest.approx(math.log(1e14 / (6 - left_out)), abs=1e-9)
    assert found > value(name, data(50, 3, dim=6)[0], torch.arange(50) % 3)


def test_rho_spectrum_of_nothing_but_zeros_is_a_number():
    found = value("rho_spectrum@1@embeds", torch.zeros(50, 6), torch.arange(50) % 3)
    assert found == pytest.approx(math.log(1e14 / 6), abs=1e-9)


def test_blocks_of_rows_give_the_same(monkeypatch):
    embeddings, labels = data(60, 5)
    names = ("rho_spectrum@1@embeds", "dists@intra", "dists@inter")
    whole = [value(name, embeddings, labels) for name in names]
    monkeypatch.setattr(values_read, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(spectrum, "ROWS_AT_ONCE", 7)
    assert [value(name, embeddings, labels) for name in names] == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_semantic_consistency_is_spearmans_correlation_over_pairs_of_classes(seed):
    embeddings, labels = data(80, 9, seed)
    kinds = torch.randint(4, (12,), generator=torch.Generator().manual_seed(seed))
    texts = torch.eye(4)[kinds]  # alike or not at all: many ties
    present = labels.unique().tolist()
    means = {name: embeddings[labels == name].double().mean(0) for name in present}
    pairs = list(itertools.combinations(present, 2))
    expected = spearmanr(
        [-cosine_distance(means[a], means[b]) for a, b in pairs],
        [float(texts[a] @ texts[b]) for a, b in pairs],
    ).statistic
    found = value("semantic_consistency", embeddings, labels, text_vectors=texts)
    assert found == pytest.approx(expected, abs=1e-9)


def test_semantic_consistency_of_a_space_that_is_language():
    vectors = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6).repeat_interleave(2)
    texts = torch.nn.functional.normalize(vectors, dim=1)

    def consistency(rows, labels, texts) -> float:
        return value("semantic_consistency", rows, labels, text_vectors=texts)

    assert consistency(vectors[labels], labels, texts) == pytest.approx(1)
    assert abs(consistency(vectors[labels], labels, texts.flip(0))) < 0.9
    assert consistency(vectors[labels], labels, torch.ones(6, 3)) == 0
    assert consistency(vectors[:2], torch.arange(2), texts) == 0


def test_semantic_consistency_of_equal_texts_or_images_has_ties():
    """Whatever a product of equal vectors is rounded to."""
    random = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(50, 384, generator=random), dim=1)
    rows = torch.nn.functional.normalize(torch.randn(50, 64, generator=random), dim=1)
    labels = torch.arange(50)

    def consistency(rows, texts) -> float:
        return value("semantic_consistency", rows, labels, text_vectors=texts)

    assert consistency(rows, texts[:1].expand(50, -1)) == 0
    assert consistency(rows[:1].expand(50, -1), texts) == 0
    kinds = labels % 7
    of_kinds = (texts[:7].double() @ texts[:7].double().T).fill_diagonal_(1).round(decimals=9)
    in_texts = of_kinds[kinds][:, kinds]
    first, second = torch.triu_indices(50, 50, offset=1)
    units = torch.nn.functional.normalize(rows.double(), dim=1)
    in_images = units @ units.T
    expected = spearmanr(in_images[first, second], in_texts[first, second])
    assert consistency(rows, texts[kinds]) == pytest.approx(expected.statistic, abs=1e-9)


def test_semantic_consistency_of_images_that_hardly_differ():
    """The ranks of a space that has not spread yet are those of its differences."""
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(9, 20, dtype=torch.float64, generator=random)
    rows = (torch.ones(20) + 1e-3 * rows).float()
    texts = torch.nn.functional.normalize(rows.double() - rows.double().mean(0), dim=1).float()
    labels = torch.arange(9)
    pairs = list(itertools.combinations(range(9), 2))
    expected = spearmanr(
        [-cosine_distance(rows[a].double(), rows[b].double()) for a, b in pairs],
        [float(texts[a].double() @ texts[b].double()) for a, b in pairs],
    ).statistic
    found = value("semantic_consistency", rows, labels, text_vectors=texts)
    assert found == pytest.approx(expected, abs=1e-9)


def test_semantic_consistency_without_texts_is_refused():
    embeddings, labels = data(20, 4)
    with pytest.raises(ValueError, match="text vectors"):
        value("semantic_consistency", embeddings, labels)


def test_semantic_consistency_of_many_classes_is_that_of_some(monkeypatch):
    vectors = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    texts = torch.nn.functional.normalize(
        vectors + torch.randn(40, 20, generator=torch.Generator().manual_seed(1)), dim=1
    )
    monkeypatch.setattr(semantics, "CLASSES", 14)
    chosen = torch.linspace(0, 39, 14).round().long()
    expected = value(
        "semantic_consistency", vectors[chosen], torch.arange(14), text_vectors=texts[chosen]
    )
    found = value("semantic_consistency", vectors, torch.arange(40), text_vectors=texts)
    assert found == expected != 0


def test_a_retrieval_worked_out_by_hand():
    """Query 0 finds its relevant images at ranks 1, 4 and 6, query 2 its only one at rank 2.

    Query 1 has none.
    """
    found = Retrieval(
        torch.tensor([0, 0, 0, 2]), torch.tensor([1, 4, 6, 2]), torch.tensor([3, 0, 1])
    )
    expected = {
        "e_recall@1": [1, 0, 0],
        "e_recall@2": [1, 0, 1],
        "precision@4": [2 / 4, 0, 1 / 4],
        "r_precision": [1 / 3, math.nan, 0],
        "mAP@R": [1 / 3, math.nan, 0],
        "mAP": [(1 + 2 / 4 + 3 / 6) / 3, math.nan, 1 / 2],
        "mAP_1000": [(1 + 2 / 4 + 3 / 6) / 4, 0, 1 / 4],
        "mAP_lim": [(1 + 2 / 4 + 3 / 6) / 3, math.nan, 1 / 2],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(
            metrics.parse(name).compute(found), values, rtol=1e-12, err_msg=name
        )
    assert metrics.per_query_mean(metrics.parse("mAP@R").compute(found)) == pytest.approx(1 / 6)
    assert metrics.per_query_mean(torch.tensor([math.nan, math.nan])) == 0


def test_map_of_more_than_1000_images_stops_at_1000():
    labels, places = torch.arange(1100) % 2, np.arange(1100)
    paper = corrected = 0.0
    for query in range(1100):
        order = np.argsort(abs(places - query), kind="stable")[1:1001]
        hits = order % 2 == query % 2
        total = (hits.cumsum() / np.arange(1, 1001) * hits).sum()
        paper, corrected = paper + total / 550 / 1100, corrected + total / 549 / 1100
    found = evaluate_embeddings(
        torch.arange(1100.0)[:, None],
        Protocol(labels),
        [metrics.parse(name) for name in ("mAP_1000", "mAP_lim")],
        memory=2**26,
    )
    assert found["mAP_1000"] == pytest.approx(paper, rel=1e-9)
    assert found["mAP_lim"] == pytest.approx(corrected, rel=1e-9)


def test_agreement_with_pytorch_metric_learning():
    """Its mean_average_precision is over its k neighbours and divides by the hits among them.

    Over all neighbours, both are the same.
    """
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    embeddings, labels = data(300, 40, dim=16)
    names = {
        "precision_at_1": "precision@1",
        "r_precision": "r_precision",
        "mean_average_precision_at_r": "mAP@R",
        "mean_average_precision": "mAP",
    }
    theirs = calculators.AccuracyCalculator(
        include=tuple(names), k=299, device=torch.device("cpu")
    ).get_accuracy(embeddings, labels)
    asked = [metrics.parse(name) for name in names.values()]
    # It leaves out the only image of a class, also where we call that a miss.
    is_alone = labels.bincount()[labels] == 1
    queries = (~is_alone).nonzero().squeeze(1)
    ours = evaluate_embeddings(
        embeddings, Protocol(labels, None, queries, torch.arange(300)), asked, memory=2**26
    )
    for their_name, name in names.items():
        assert ours[name] == pytest.approx(theirs[their_name], abs=1e-6), name


@pytest.mark.parametrize(
    "name, space, depth, family",
    [
        ("e_recall@4", EUCLIDEAN, 4, "e_recall"),
        ("c_recall@10", COSINE, 10, "c_recall"),
        ("mAP_1000", EUCLIDEAN, 1000, "mAP_1000"),
        ("c_mAP_lim", COSINE, 1000, "c_mAP_lim"),
        ("mAP@R", EUCLIDEAN, UP_TO_RELEVANT, "mAP"),
        ("c_mAP", COSINE, ALL, "c_mAP"),
        ("nmi", EUCLIDEAN, 0, "nmi"),
        ("c_f1", COSINE, 0, "c_f1"),
        ("dists@intra", EUCLIDEAN, 0, "dists"),
        ("rho_spectrum@-1@avg_features", EUCLIDEAN, 0, "rho_spectrum"),
        ("superclass_recall@2", EUCLIDEAN, 2, "superclass_recall"),
    ],
)
def test_parse(name, space, depth, family):
    metric = metrics.parse(name)
    assert (metric.name, metric.space, metric.depth, metric.family) == (name, space, depth, family)
    assert metric.clusters == (name in ("nmi", "c_f1"))
    assert metric.superclass == name.startswith("superclass")
    assert metric.evaltype == ("avg_features" if "avg_features" in name else None)


@pytest.mark.parametrize(
    "name",
    [
        "recall@1",
        "e_recall",
        "e_recall@0",
        "e_recall@-1",
        "e_recall@x",
        "e_recall@K",
        "nmi@1",
        "mAP@2",
        "",
        "e_recall@1 ",
        "rho_spectrum@0@embeds",
    ],
)
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError) as error:
        metrics.parse(name)
    assert all(known in str(error.value) for known in metrics.REGISTRY)


def test_every_metric_says_what_it_does_with_a_lone_image():
    for name, metric in metrics.REGISTRY.items():
        text = metric.compute.__doc__
        assert metric.evaltype or "single image" in text or "only image" in text, name


def wrong_first_neighbours(rows, labels, queries, gallery, cosine: bool) -> list[tuple[int, int]]:
    """The classes of queries and of their nearest, where the two differ, by plain loops."""
    rows = rows.double()
    rows = torch.nn.functional.normalize(rows, dim=1) if cosine else rows
    pairs = []
    for query in queries:
        others = [row for row in gallery if row != query]
        if others:
            nearest = min(others, key=lambda row: float((rows[query] - rows[row]).square().sum()))
            if labels[nearest] != labels[query]:
                pairs.append((int(labels[query]), int(labels[nearest])))
    return pairs


def naive_severity(pairs, labels, gallery, distance) -> float:
    """Mean over wrong pairs of their distance beside that of all wrong images of the gallery."""
    severities = []
    for asked, found in pairs:
        others = [int(labels[row]) for row in gallery if labels[row] != asked]
        by_chance = mean(distance(asked, other) for other in others)
        if by_chance > 1e-9:
            severities.append(distance(asked, found) / by_chance)
    return mean(severities)


SEVERITIES = {
    "mistake_severity": False,
    "c_mistake_severity": True,
    "superclass_mistake_severity": False,
}
PARTS = {
    "all": {},
    "apart": {"queries": torch.arange(0, 60, 2), "gallery": torch.arange(1, 60, 2)},
    "some of both": {"queries": torch.arange(20), "gallery": torch.arange(10, 60)},
    "one row": {"queries": torch.arange(5), "gallery": torch.tensor([3])},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("memory", [1, 2**26])
@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_the_severity_of_mistakes_against_loops(part, memory, backend):
    rows, labels = data(60, 9, dim=3)
    labels[7] = 9  # a lone image
    texts = torch.randn(11, 6, generator=torch.Generator().manual_seed(1))
    texts[4] = texts[5]
    groups = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 0, 1])
    protocol = Protocol(labels, groups[labels], **PARTS[part])
    queries = PARTS[part].get("queries", torch.arange(60)).tolist()
    gallery = PARTS[part].get("gallery", torch.arange(60)).tolist()
    found = evaluate_embeddings(
        rows,
        protocol,
        list(SEVERITIES),
        backend=backend,
        memory=memory,
        text_vectors=torch.nn.functional.normalize(texts, dim=1),
    )
    for name, cosine in SEVERITIES.items():
        pairs = wrong_first_neighbours(rows, labels, queries, gallery, cosine)
        assert pairs

        def distance(asked: int, other: int, name: str = name) -> float:
            if name.startswith("superclass"):
                return float(groups[asked] != groups[other])
            return cosine_distance(texts[asked], texts[other])

        expected = naive_severity(pairs, labels, gallery, distance)
        assert found[name] == pytest.approx(expected, abs=1e-6), name


def test_errors_at_random_have_the_severity_of_chance():
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(40).repeat_interleave(50)
    rows = torch.randn(2000, 8, generator=random)
    texts = torch.nn.functional.normalize(torch.randn(40, 4, generator=random), dim=1)
    protocol = Protocol(labels, labels // 4)
    found = evaluate_embeddings(rows, protocol, list(SEVERITIES), text_vectors=texts)
    assert all(abs(severity - 1) < 0.03 for severity in found.values())


def test_a_space_of_language_makes_mild_mistakes_and_a_perfect_one_none():
    labels = torch.arange(12).repeat_interleave(6)
    centres = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))[torch.arange(12) // 4]
    texts = centres + 0.3 * torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    texts = torch.nn.functional.normalize(texts, dim=1)
    noise = 0.2 * torch.randn(72, 8, generator=torch.Generator().manual_seed(2))
    asked = ["mistake_severity", "superclass_mistake_severity", "e_recall@1"]
    protocol = Protocol(labels, labels // 4)
    mild = evaluate_embeddings(texts[labels] + noise, protocol, asked, text_vectors=texts)
    assert 0 < mild["mistake_severity"] < 0.4 and mild["superclass_mistake_severity"] < 0.2
    perfect = evaluate_embeddings(texts[labels], protocol, asked, text_vectors=texts)
    assert perfect == {
        "e_recall@1": 1,
        "mistake_severity": 0,
        "superclass_mistake_severity": 0,
    }


@pytest.mark.parametrize("name", ["mistake_severity", "superclass_mistake_severity"])
def test_severity_without_what_it_reads_is_refused(name):
    rows, labels = data(20, 4)
    with pytest.raises(ValueError, match=r"text vectors|super-classes"):
        evaluate_embeddings(rows, labels, [name])


def test_ties_go_to_the_first_row_whatever_the_block():
    labels = torch.tensor([0, 1, 2, 1, 2, 0] * 20)
    rows = torch.ones(120, 4)
    texts = torch.nn.functional.normalize(torch.eye(3) + 0.2 * torch.arange(3.0), dim=1)
    values = {
        evaluate_embeddings(
            rows, labels, ["mistake_severity"], memory=memory, backend=backend, text_vectors=texts
        )["mistake_severity"]
        for memory in (1, 2**20, 2**28)
        for backend in ("torch", "faiss")
    }
    assert len(values) == 1
