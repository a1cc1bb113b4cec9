"""Metrics of a Retrieval against plain loops."""
import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

import metrics
from evaluation import evaluate_embeddings
from metrics import COSINE, EUCLIDEAN, Retrieval

MEAN_AVERAGE_PRECISION = importlib.import_module("metrics.mean_average_precision")  # the room has a function of that name


def data(count: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=random)
    centres = torch.randn(classes, 5, generator=random)
    return centres[labels] + 0.9 * torch.randn(count, 5, generator=random), labels


def ranked_labels(embeddings, labels, cosine: bool = False) -> list[list[int]]:
    """Labels of all other rows, nearest first, ties by index."""
    rows = embeddings.double().tolist()
    if cosine:
        rows = [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in rows]
    orders = [sorted((j for j in range(len(rows)) if j != i), key=lambda j: (math.dist(rows[i], rows[j]), j)) for i in range(len(rows))]
    return [[int(labels[j]) for j in order] for order in orders]


def naive_recall(embeddings, labels, k, cosine=False) -> float:
    ranked = ranked_labels(embeddings, labels, cosine)
    return sum(int(labels[i]) in ranked[i][:k] for i in range(len(labels))) / len(labels)


def naive_map(embeddings, labels, k, cosine=False) -> float:
    total = 0.0
    for i, neighbours in enumerate(ranked_labels(embeddings, labels, cosine)):
        found, score = 0, 0.0
        for rank, label in enumerate(neighbours[:k], start=1):
            if label == labels[i]:
                found += 1
                score += found / rank
        total += score / int((labels == labels[i]).sum())
    return total / len(labels)


def naive_f1(labels, clusters) -> float:
    both = only_class = only_cluster = 0
    for i, j in itertools.combinations(range(len(labels)), 2):
        one_class, one_cluster = labels[i] == labels[j], clusters[i] == clusters[j]
        both += bool(one_class and one_cluster)
        only_class += bool(one_class and not one_cluster)
        only_cluster += bool(one_cluster and not one_class)
    return 2 * both / (2 * both + only_class + only_cluster) if both + only_class + only_cluster else 0.0


def value(name: str, embeddings, labels) -> float:
    return evaluate_embeddings(embeddings, labels, [metrics.parse(name)])[name]


@pytest.mark.parametrize("k", [1, 2, 7, 100])
@pytest.mark.parametrize("name, cosine", [("e_recall", False), ("c_recall", True)])
def test_recall(name, k, cosine):
    embeddings, labels = data(50, 12)
    assert value(f"{name}@{k}", embeddings, labels) == pytest.approx(naive_recall(embeddings, labels, k, cosine), abs=1e-12)


@pytest.mark.parametrize("name, cosine", [("mAP_1000", False), ("c_mAP_1000", True)])
@pytest.mark.parametrize("count, classes", [(60, 7), (9, 3), (2, 1)])
def test_map_of_fewer_than_1000_images(name, cosine, count, classes):
    embeddings, labels = data(count, classes)
    assert value(name, embeddings, labels) == pytest.approx(naive_map(embeddings, labels, 1000, cosine), rel=1e-9)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_map_stops_at_k(k):
    embeddings, labels = data(60, 4)
    neighbours = {EUCLIDEAN: torch.tensor(ranked_labels(embeddings, labels))}
    found = MEAN_AVERAGE_PRECISION.mean_average_precision(Retrieval(labels, embeddings, neighbours), EUCLIDEAN, k)
    assert found == pytest.approx(naive_map(embeddings, labels, k), rel=1e-12)


def test_map_of_more_than_1000_images_stops_at_1000():
    labels, places = torch.arange(1100) % 2, np.arange(1100)
    expected = 0.0
    for query in range(1100):
        order = np.argsort(abs(places - query), kind="stable")[1:1001]
        hits = order % 2 == query % 2
        expected += (hits.cumsum() / np.arange(1, 1001) * hits).sum() / 550 / 1100
    assert metrics.parse("mAP_1000").neighbours == 1000
    assert value("mAP_1000", torch.arange(1100.0)[:, None], labels) == pytest.approx(expected, rel=1e-9)


def test_map_in_chunks(monkeypatch):
    embeddings, labels = data(60, 4)
    whole = value("mAP_1000", embeddings, labels)
    monkeypatch.setattr(MEAN_AVERAGE_PRECISION, "CHUNK", 7)
    assert value("mAP_1000", embeddings, labels) == pytest.approx(whole, rel=1e-12)


def test_a_perfect_space():
    labels = torch.tensor([0] * 4 + [1] * 4)
    embeddings = torch.eye(2)[labels] + torch.linspace(0, 1e-3, 8)[:, None]
    assert value("e_recall@1", embeddings, labels) == 1
    assert value("mAP_1000", embeddings, labels) == pytest.approx(3 / 4)
    assert value("nmi", embeddings, labels) == pytest.approx(1) and value("f1", embeddings, labels) == 1


def test_the_only_image_of_a_class_is_a_miss():
    embeddings, labels = torch.tensor([[0.0], [0.1], [5.0]]), torch.tensor([0, 0, 1])
    assert value("e_recall@2", embeddings, labels) == pytest.approx(2 / 3)
    assert value("mAP_1000", embeddings, labels) == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)


def test_recall_reads_the_neighbours_of_its_space():
    labels = torch.tensor([0, 1])
    retrieval = Retrieval(labels, torch.zeros(2, 1), {EUCLIDEAN: torch.tensor([[0], [1]]), COSINE: torch.tensor([[1], [0]])})
    assert metrics.parse("e_recall@1").compute(retrieval) == 1 and metrics.parse("c_recall@1").compute(retrieval) == 0


CLUSTERINGS = [([0, 0, 1, 1, 2], [1, 1, 0, 0, 2]), ([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1]), ([0, 0, 0], [0, 0, 0]), ([0, 1, 2], [2, 1, 0]),
               ([5, 5, 9, 9, 9, 30], [0, 0, 0, 7, 7, 7]), (list(np.random.default_rng(0).integers(0, 6, 60)), list(np.random.default_rng(1).integers(0, 4, 60)))]


@pytest.mark.parametrize("labels, clusters", CLUSTERINGS)
def test_clustering(labels, clusters):
    retrieval = Retrieval(torch.tensor(labels), torch.zeros(len(labels), 1), clusters=torch.tensor(clusters))
    assert metrics.parse("f1").compute(retrieval) == pytest.approx(naive_f1(labels, clusters), abs=1e-12)
    assert metrics.parse("nmi").compute(retrieval) == pytest.approx(normalized_mutual_info_score(labels, clusters))


def test_nmi_is_the_arithmetic_one():
    labels, clusters = [0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1, 1]
    count = len(labels)
    def entropy(values):
        return -sum(values.count(v) / count * math.log(values.count(v) / count) for v in set(values))
    mutual = entropy(labels) + entropy(clusters) - entropy(list(zip(labels, clusters)))
    retrieval = Retrieval(torch.tensor(labels), torch.zeros(7, 1), clusters=torch.tensor(clusters))
    assert metrics.parse("nmi").compute(retrieval) == pytest.approx(2 * mutual / (entropy(labels) + entropy(clusters)))


@pytest.mark.parametrize("name, space, neighbours, clusters, family", [
    ("e_recall@4", EUCLIDEAN, 4, False, "e_recall"), ("c_recall@10", COSINE, 10, False, "c_recall"),
    ("mAP_1000", EUCLIDEAN, 1000, False, "mAP_1000"), ("nmi", None, 0, True, "nmi"), ("f1", None, 0, True, "f1")])
def test_parse(name, space, neighbours, clusters, family):
    metric = metrics.parse(name)
    assert (metric.name, metric.space, metric.neighbours, metric.clusters, metric.family) == (name, space, neighbours, clusters, family)


@pytest.mark.parametrize("name", ["recall@1", "e_recall", "e_recall@0", "e_recall@-1", "e_recall@x", "e_recall@K", "nmi@1", "mAP", "", "e_recall@1 "])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError) as error:
        metrics.parse(name)
    assert all(known in str(error.value) for known in metrics.REGISTRY)
