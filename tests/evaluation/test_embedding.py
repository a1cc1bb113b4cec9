"""Embeddings of a split, in its order whatever the batches."""

import importlib
import random

import numpy as np
import pytest
import torch
from torch import nn

import metrics
import parameters
from evaluation import (
    EvaluatedSplit,
    Evaluator,
    Protocol,
    Search,
    evaluate_embeddings,
    retrieval,
)
from evaluation.embedding import embed
from evaluation.evaluate import BACKENDS
from utilities.errors import NonFiniteLoss
from utilities.runtime import Runtime
from utilities.types import Batch, ModelOutput

RUNTIME = Runtime()


class Mean(nn.Module):
    """Embeds an image by the means of its channels."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, images: torch.Tensor) -> ModelOutput:
        means = images.mean((2, 3))
        return ModelOutput(
            self.norm(means) if self.training else means, torch.cat([means, -means], 1), images
        )


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def batches(count: int, order: list[list[int]]) -> list[Batch]:
    return [
        Batch(images(count)[rows], torch.tensor(rows) % 2, torch.tensor(rows)) for rows in order
    ]


def embedded(
    order, count: int = 5, precision: str = "fp32", evaltypes=("embeds", "avg_features")
) -> dict[str, torch.Tensor]:
    return embed(
        Mean(),
        batches(count, order),
        count=count,
        evaltypes=list(evaltypes),
        runtime=Runtime(precision=precision),
    )


def evaluated(
    split_batches: list[Batch], asked: list, evaltypes=("embeds",), on_cpu: bool = False
) -> dict[str, dict[str, float]]:
    """Values by family of a split of 6 images in two classes."""
    splits = {"Test": EvaluatedSplit(split_batches, Protocol(torch.arange(6) % 2))}
    search = Search(memory="1MB", on_cpu=on_cpu)
    evaluator = Evaluator(splits, asked, evaltypes=list(evaltypes), runtime=RUNTIME, search=search)
    return evaluator.run(Mean())["Test"].values


@pytest.mark.parametrize(
    "order", [[[0, 1, 2], [3, 4]], [[4, 1], [3], [0, 2]], [[2, 2, 0], [1, 3, 4]]]
)
def test_rows_are_in_the_order_of_the_split(order):
    found = embedded(order)
    torch.testing.assert_close(found["embeds"], images(5).mean((2, 3)))
    assert found["avg_features"].shape == (5, 6)


def test_a_missing_sample_is_an_error():
    with pytest.raises(RuntimeError, match="1 of 5"):
        embedded([[0, 1], [2, 4]])
    with pytest.raises(RuntimeError):
        embedded([])


def test_only_the_asked_evaltypes():
    assert set(embedded([[0, 1, 2, 3, 4]], evaltypes=["avg_features"])) == {"avg_features"}


def test_float32_without_gradient_also_under_autocast():
    found = embedded([[0, 1, 2, 3, 4]], precision="bf16")["embeds"]
    assert found.dtype == torch.float32 and not found.requires_grad


def test_the_network_is_in_evaluation_mode():
    network = Mean().train()
    embed(
        network,
        batches(5, [[0, 1, 2, 3, 4]]),
        count=5,
        evaltypes=["embeds"],
        runtime=RUNTIME,
    )
    assert not network.training and network.norm.num_batches_tracked == 0


def test_evaluate_gives_every_metric_of_every_evaltype():
    asked = [metrics.parse(name) for name in ("e_recall@1", "c_recall@2", "nmi", "mAP_1000")]
    found = evaluated(
        batches(6, [[5, 0, 1], [2, 3, 4]]), asked, evaltypes=["embeds", "avg_features"], on_cpu=True
    )
    assert {family: set(values) for family, values in found.items()} == {
        f"{evaltype}_{metric.family}": {metric.name}
        for evaltype in ("embeds", "avg_features")
        for metric in asked
    }
    assert all(0 <= number <= 1 for values in found.values() for number in values.values())


def test_metrics_of_a_family_stay_together():
    asked = [metrics.parse(name) for name in ("e_recall@1", "nmi", "e_recall@2")]
    found = evaluated(batches(6, [[0, 1, 2, 3, 4, 5]]), asked)
    assert list(found["embeds_e_recall"]) == ["e_recall@1", "e_recall@2"]


@pytest.mark.parametrize("name", ["e_recall@1", "mAP_1000", "nmi"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e19, -3e38])
def test_a_network_that_is_not_finite_gives_no_number(name, value):
    """Neighbours of NaN rows are arbitrary: a broken network could look like the best so far.

    So are those at distances that float32 does not hold.
    """
    broken = [
        batch._replace(images=torch.full_like(batch.images, value))
        for batch in batches(6, [[0, 1, 2, 3, 4, 5]])
    ]
    with pytest.raises(NonFiniteLoss, match="embeddings"):
        evaluated(broken, [metrics.parse(name)])


def test_a_metric_of_one_kind_of_output_is_computed_of_that_only():
    asked = [metrics.parse(name) for name in ("rho_spectrum@1@avg_features", "e_recall@1")]
    found = evaluated(batches(6, [[0, 1, 2, 3, 4, 5]]), asked, evaltypes=["embeds", "avg_features"])
    assert set(found) == {"embeds_e_recall", "avg_features_rho_spectrum", "avg_features_e_recall"}


def test_an_evaluation_leaves_the_random_streams_as_they_were():
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    asked = [
        metrics.parse(name)
        for name in ("e_recall@1", "c_mAP", "nmi", "c_ami", "rho_spectrum@1@embeds")
    ]
    evaluated(batches(6, [[0, 1, 2, 3, 4, 5]]), asked)
    assert (
        torch.equal(states[0], torch.get_rng_state())
        and (states[1] == np.random.get_state()[1]).all()
        and states[2] == random.getstate()
    )


def test_only_what_is_asked_is_computed(monkeypatch):
    module = importlib.import_module("evaluation.evaluate")  # the room has a function of that name
    monkeypatch.setattr(module, "cluster", lambda *args, **kwargs: pytest.fail("clustered"))
    module.evaluate_embeddings(
        images(6).mean((2, 3)),
        Protocol(torch.arange(6) % 2),
        [metrics.parse("e_recall@1")],
        memory=2**20,
    )
    monkeypatch.setattr(retrieval, "_search", lambda *args: pytest.fail("searched"))
    module.evaluate_embeddings(
        images(6).mean((2, 3)),
        Protocol(torch.arange(6) % 2),
        [metrics.parse("dists@intra")],
        memory=2**20,
    )


def test_embeddings_of_numpy_and_with_a_gradient_are_those_of_torch():
    rows, labels = images(6).mean((2, 3)), torch.arange(6) % 2
    expected = evaluate_embeddings(rows, labels, memory=2**20)
    assert evaluate_embeddings(rows.numpy(), labels.numpy(), memory=2**20) == expected
    assert evaluate_embeddings(rows.requires_grad_(), labels.int(), memory=2**20) == expected


@pytest.mark.parametrize(
    "labels, part",
    [
        (torch.arange(5), "labels"),
        (torch.arange(6)[:, None], "labels"),
        (torch.arange(6) - 1, "at least 0"),
        (torch.arange(6) / 2, "whole numbers"),
    ],
)
def test_labels_that_are_none_are_refused(labels, part):
    with pytest.raises(ValueError, match=part):
        evaluate_embeddings(images(6).mean((2, 3)), labels)


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e19, 1e30, 1e17, 1e-8])
@pytest.mark.parametrize("rows", [slice(0, 1), slice(None)], ids=["one", "all"])
def test_embeddings_between_which_are_no_distances_are_refused(backend, factor, rows):
    """Others have the values of embeddings of usual lengths."""
    embeddings, labels = images(8).mean((2, 3)), torch.arange(8) % 2
    wanted = ["e_recall@1", "mAP", "c_mAP", "nmi"]
    scaled = embeddings.clone()
    scaled[rows] *= factor
    if not factor < 1e18:
        with pytest.raises(ValueError, match="finite"):
            evaluate_embeddings(scaled, labels, wanted, backend=backend, memory=2**20)
        return
    found = evaluate_embeddings(scaled, labels, wanted, backend=backend, memory=2**20)
    assert all(0 <= number <= 1 for number in found.values())
    if rows == slice(None):
        usual = evaluate_embeddings(embeddings, labels, wanted, backend=backend, memory=2**20)
        assert [found[name] for name in wanted[:3]] == [usual[name] for name in wanted[:3]]


def test_labels_may_be_large_numbers():
    """As those of a database: nothing is as large as the largest."""
    rows, labels = images(6).mean((2, 3)), torch.tensor([0, 1, 0, 1, 2, 2])
    texts = torch.rand(3, 4)
    protocol = Protocol(labels, labels // 2)
    large = Protocol(labels * 10**12 + 5, labels // 2 * 10**12)
    wanted = ["e_recall@1", "mAP@R", "nmi", "f1", "dists@intra", "superclass_mistake_severity"]
    assert evaluate_embeddings(rows, large, wanted) == evaluate_embeddings(rows, protocol, wanted)
    spread = torch.zeros(9, 4)
    spread[labels * 4] = texts[labels]
    wanted = ["semantic_consistency", "mistake_severity"]
    found = evaluate_embeddings(rows, labels * 4, wanted, text_vectors=spread)
    assert found == evaluate_embeddings(rows, labels, wanted, text_vectors=texts)


def test_text_vectors_may_have_any_length_and_be_of_numpy():
    rows, labels = images(6).mean((2, 3)), torch.arange(6) % 3
    wanted, texts = ["semantic_consistency", "mistake_severity"], torch.rand(3, 4)
    expected = evaluate_embeddings(rows, labels, wanted, text_vectors=texts)
    longer = texts * torch.tensor([[2.0], [16.0], [0.5]])
    assert evaluate_embeddings(rows, labels, wanted, text_vectors=longer) == expected
    assert evaluate_embeddings(rows, labels, wanted, text_vectors=longer.numpy()) == expected
    for wrong in (texts[:2], texts[0]):
        with pytest.raises(ValueError, match="row for each label up to 2"):
            evaluate_embeddings(rows, labels, wanted, text_vectors=wrong)


@pytest.mark.parametrize("name", ["queries", "gallery"])
@pytest.mark.parametrize("places", [[0, 6], [-1, 2], [], [True] * 6, [0.0, 1.0]], ids=str)
def test_rows_of_a_protocol_that_there_are_not_are_refused(name, places):
    """Masks would be taken for the rows 0 and 1."""
    protocol = Protocol(torch.arange(6) % 2, **{name: torch.tensor(places)})
    with pytest.raises(ValueError, match=f"{name} must be"):
        evaluate_embeddings(images(6).mean((2, 3)), protocol, ["e_recall@1"])


def test_a_protocol_of_numpy_is_that_of_torch():
    rows, labels, places = images(6).mean((2, 3)), np.arange(6) % 2, np.arange(4)
    expected = Protocol(*(torch.from_numpy(part) for part in (labels, labels, places, places)))
    wanted = ["e_recall@1", "superclass_recall@1"]
    found = evaluate_embeddings(rows, Protocol(labels, labels, places, places), wanted)
    assert found == evaluate_embeddings(rows, expected, wanted)


def test_a_backend_that_there_is_not_is_refused():
    assert set(BACKENDS) == set(parameters.CHOICES["evaluation_backend"])
    with pytest.raises(ValueError, match="did you mean 'faiss'"):
        evaluate_embeddings(images(6).mean((2, 3)), torch.arange(6) % 2, backend="fais")


def test_one_metric_may_be_asked_for_by_its_name():
    rows, labels = images(6).mean((2, 3)), torch.arange(6) % 2
    expected = evaluate_embeddings(rows, labels, ["e_recall@1"])
    assert evaluate_embeddings(rows, labels, "e_recall@1") == expected
