"""Margin loss against plain loops, with fixed triplets."""

import math

import pytest
import torch

from criteria import MarginLoss
from utilities.types import ModelOutput

LABELS = torch.tensor([0, 0, 2, 2, 4, 4])
TRIPLETS = torch.tensor(
    [[0, 1, 2], [1, 0, 5], [2, 3, 0], [3, 2, 4], [4, 5, 1], [5, 4, 3], [2, 3, 5]]
)
BETAS = [1.2, 9.0, 0.6, 9.0, 1.5]


def miner(embeddings, labels):
    assert not embeddings.requires_grad
    return TRIPLETS


def nothing(embeddings, labels):
    return torch.zeros(0, 3, dtype=torch.long)


def rows(seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def build(**settings) -> MarginLoss:
    criterion = MarginLoss(5, settings.pop("miner", miner), **settings)
    if isinstance(criterion.beta, torch.nn.Parameter):
        criterion.beta.data = torch.tensor(BETAS, dtype=torch.float64)
    return criterion


def naive(x, betas, form, margin=0.2, nu=0.0) -> float:
    total, triplets, pairs, regulariser = 0.0, 0, 0, 0.0
    for a, p, n in TRIPLETS.tolist():
        beta = betas[LABELS[a]]
        positive = max(
            math.sqrt(sum((x[a][k] - x[p][k]) ** 2 for k in range(3)) + 1e-8) - beta + margin, 0
        )
        negative = max(
            beta - math.sqrt(sum((x[a][k] - x[n][k]) ** 2 for k in range(3)) + 1e-8) + margin, 0
        )
        total += positive + negative
        regulariser += beta
        triplets += positive > 0 or negative > 0
        pairs += (positive > 0) + (negative > 0)
    return (total + nu * regulariser) / max(1, triplets if form == "paper" else pairs)


def loss(criterion, x):
    return criterion(ModelOutput(x, x, x), LABELS)


@pytest.mark.parametrize("form", ["paper", "textbook"])
@pytest.mark.parametrize("nu", [0, 0.3])
@pytest.mark.parametrize("margin", [0.2, 0.9])
def test_value(form, nu, margin):
    x = rows()
    found = loss(build(form=form, nu=nu, margin=margin), x)
    assert found.item() == pytest.approx(naive(x.tolist(), BETAS, form, margin, nu), rel=1e-10)


def test_the_forms_differ_where_both_pairs_of_a_triplet_are_active():
    assert loss(build(form="paper", margin=0.9), rows()) > loss(
        build(form="textbook", margin=0.9), rows()
    )


@pytest.mark.parametrize("form", ["paper", "textbook"])
def test_gradient(form):
    criterion, x = build(form=form, nu=0.1), rows().requires_grad_()
    # gradcheck changes its inputs in place, and so the criterion's own beta.
    assert torch.autograd.gradcheck(lambda x, _: loss(criterion, x), (x, criterion.beta))


def test_constant_beta_does_not_learn():
    criterion = build(beta_constant=True, beta=0.8)
    assert list(criterion.parameters()) == [] and criterion.parameter_groups(0.1) == []
    assert loss(criterion, rows()).item() == pytest.approx(
        naive(rows().tolist(), [0.8] * 5, "paper"), rel=1e-6
    )


def test_beta_has_its_own_learning_rate():
    criterion = build(beta_lr=0.007)
    (group,) = criterion.parameter_groups(0.1)
    assert group["lr"] == 0.007 and group["params"] == [criterion.beta]


def test_only_betas_of_anchor_classes_get_a_gradient():
    criterion = build(nu=5)
    loss(criterion, rows()).backward()
    assert criterion.beta.grad[[1, 3]].tolist() == [0, 0]
    assert criterion.beta.grad[[0, 2, 4]].abs().min() > 0


def test_no_triplets_give_zero_with_a_graph():
    x = rows().requires_grad_()
    found = loss(build(miner=nothing, nu=0.5), x)
    found.backward()
    assert found.item() == 0 and x.grad.abs().sum() == 0


def test_no_active_pair_gives_zero_with_a_graph():
    def easy(embeddings, labels):
        return torch.tensor([[0, 1, 2]])

    x = torch.tensor(
        [[1.0, 0, 0], [1, 0, 0], [-1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 1, 0]]
    ).requires_grad_()
    criterion = MarginLoss(5, easy, beta=1.0)
    found = loss(criterion, x)
    found.backward()
    assert found.item() == 0 and x.grad.isfinite().all()


def test_equal_rows_have_a_finite_gradient():
    x = torch.ones(6, 3).requires_grad_()
    loss(MarginLoss(5, miner, beta=0.1), x).backward()
    assert x.grad.isfinite().all()
