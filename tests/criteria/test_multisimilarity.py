"""Multi-Similarity loss against plain loops."""

import math

import pytest
import torch

from criteria import MultiSimilarityLoss
from utilities.types import ModelOutput

LABELS = {
    "usual": [0, 0, 1, 1, 2, 2],
    "not contiguous": [7, 40, 7, 40, 40, 1],
    "no negatives": [1, 1, 1],
    "no positives": [0, 1, 2],
}


def rows(count: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    noise = torch.randn(
        count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return torch.nn.functional.normalize(noise * spread + torch.ones(4, dtype=torch.float64), dim=1)


def naive(x, y, form, alpha=2.0, beta=40.0, eps=0.1, pos=0.5, neg=0.5) -> float:
    count = len(y)
    similarity = [
        [sum(a * b for a, b in zip(x[i], x[j])) for j in range(count)] for i in range(count)
    ]
    positive_terms, negative_terms = [], []
    for i in range(count):
        positives = [similarity[i][j] for j in range(count) if j != i and y[i] == y[j]]
        negatives = [similarity[i][j] for j in range(count) if y[i] != y[j]]
        hard_positives = [s for s in positives if negatives and s - eps < max(negatives)]
        hard_negatives = [s for s in negatives if positives and s + eps > min(positives)]
        positive_terms.append(
            math.log(1 + sum(math.exp(-alpha * (s - pos)) for s in hard_positives))
        )
        negative_terms.append(math.log(1 + sum(math.exp(beta * (s - neg)) for s in hard_negatives)))
    mean_positive, mean_negative = sum(positive_terms) / count, sum(negative_terms) / count
    if form == "paper":
        mean_positive, mean_negative = (
            math.log(1 + math.exp(mean_positive)),
            math.log(1 + math.exp(mean_negative)),
        )
    return mean_positive / alpha + mean_negative / beta


def loss(x, y, **settings) -> torch.Tensor:
    return MultiSimilarityLoss(**settings)(ModelOutput(x, x, x), torch.as_tensor(y))


@pytest.mark.parametrize("form", ["paper", "textbook"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_value(labels, form, spread):
    x = rows(len(labels), seed=len(labels), spread=spread)
    assert loss(x, labels, form=form).item() == pytest.approx(
        naive(x.tolist(), labels, form), rel=1e-10
    )


@pytest.mark.parametrize("form", ["paper", "textbook"])
def test_value_with_other_hyperparameters(form):
    x, labels = rows(6, 3), [0, 0, 1, 1, 2, 2]
    found = loss(
        x,
        labels,
        form=form,
        pos_weight=3,
        neg_weight=10,
        margin=0.3,
        pos_thresh=0.4,
        neg_thresh=0.7,
    )
    assert found.item() == pytest.approx(
        naive(x.tolist(), labels, form, alpha=3, beta=10, eps=0.3, pos=0.4, neg=0.7), rel=1e-10
    )


def test_both_axes_agree():
    x, labels = rows(6, 1), [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(loss(x, labels, dim=0), loss(x, labels, dim=1))


@pytest.mark.parametrize("form", ["paper", "textbook"])
def test_gradient(form):
    x = rows(6, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, [0, 0, 1, 1, 2, 2], form=form), x)


def test_nothing_to_learn_gives_the_constant_of_each_form():
    apart = torch.eye(6, dtype=torch.float64)[[0, 0, 1, 1, 2, 2]].requires_grad_()
    textbook = loss(apart, [0, 0, 1, 1, 2, 2], form="textbook")
    textbook.backward()
    assert textbook.item() == 0 and apart.grad.abs().sum() == 0
    assert loss(apart, [0, 0, 1, 1, 2, 2]).item() == pytest.approx(
        math.log(2) / 2 + math.log(2) / 40
    )


def test_large_scales_do_not_overflow():
    x = rows(6, 2).float()
    assert loss(x, [0, 0, 1, 1, 2, 2], pos_weight=1e4, neg_weight=1e4).isfinite()
