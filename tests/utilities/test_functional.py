"""Shared tensor functions against plain loops."""

import math

import pytest
import torch

from utilities import functional


def matrix(rows: int = 4, columns: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, dtype=torch.float64, generator=random), torch.rand(
        rows, columns, generator=random
    ) < 0.5


@pytest.mark.parametrize("dim", [0, 1])
def test_masked_extremes_and_log_sums(dim):
    values, mask = matrix()
    lines, masks = (
        (values.tolist(), mask.tolist()) if dim == 1 else (values.T.tolist(), mask.T.tolist())
    )
    chosen = [[v for v, m in zip(line, keep) if m] for line, keep in zip(lines, masks)]
    limits = torch.finfo(torch.float64)
    assert functional.masked_max(values, mask, dim).tolist() == [
        max(line, default=limits.min) for line in chosen
    ]
    assert functional.masked_min(values, mask, dim).tolist() == [
        min(line, default=limits.max) for line in chosen
    ]
    assert functional.log1p_sum_exp(values, mask, dim).tolist() == pytest.approx(
        [math.log(1 + sum(map(math.exp, line))) for line in chosen]
    )


def test_masked_mean_and_logsumexp():
    values, mask = matrix()
    mask[2] = False
    chosen = [
        [v for v, m in zip(line, keep) if m] for line, keep in zip(values.tolist(), mask.tolist())
    ]
    assert functional.masked_mean(values, mask).item() == pytest.approx(
        sum(map(sum, chosen)) / sum(map(len, chosen))
    )
    assert functional.masked_mean(values, torch.zeros_like(mask)).item() == 0
    found = functional.masked_logsumexp(values, mask, 1)
    assert found.isfinite().all() and all(
        value < -1e300 for value, line in zip(found.tolist(), chosen) if not line
    )
    assert found[[bool(line) for line in chosen]].tolist() == pytest.approx(
        [math.log(sum(map(math.exp, line))) for line in chosen if line]
    )


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [7, 2, 7, 7, 2, 1], [3], [0, 1, 2], [4, 4, 4]])
def test_pairs_of_a_batch(labels):
    positives, negatives = functional.pair_masks(torch.tensor(labels))
    count = len(labels)
    assert positives.tolist() == [
        [labels[i] == labels[j] and i != j for j in range(count)] for i in range(count)
    ]
    assert negatives.tolist() == [
        [labels[i] != labels[j] for j in range(count)] for i in range(count)
    ]
    columns, real = functional.positive_columns(positives)
    assert columns.shape == real.shape and columns.shape[1] >= 1
    assert [row[keep].tolist() for row, keep in zip(columns, real)] == [
        [j for j in range(count) if positives[i, j]] for i in range(count)
    ]


def test_distances_of_rows_and_counterparts():
    first, second = matrix(4, 3, seed=1)[0], matrix(4, 3, seed=2)[0]
    assert functional.row_distances(first, second).tolist() == pytest.approx(
        [math.dist(a, b) for a, b in zip(first.tolist(), second.tolist())]
    )
    equal = first.clone().requires_grad_()
    functional.row_distances(equal, first).sum().backward()
    assert functional.row_distances(first, first).max() < 1e-150 and equal.grad.abs().sum() == 0


def test_safe_sqrt_of_what_rounding_made_negative():
    values = torch.tensor([4.0, 0.0, -1e-7], requires_grad=True)
    found = functional.safe_sqrt(values)
    found.sum().backward()
    assert found.tolist() == pytest.approx([2, 0, 0], abs=1e-15) and values.grad.tolist() == [
        0.25,
        0,
        0,
    ]


def test_log1p_sum_exp_of_nothing_is_zero_without_gradient():
    values = torch.randn(3, 4, requires_grad=True)
    found = functional.log1p_sum_exp(values, torch.zeros(3, 4, dtype=torch.bool), 1)
    found.sum().backward()
    assert found.tolist() == [0, 0, 0] and values.grad.abs().sum() == 0


def test_log1p_sum_exp_of_large_values():
    values = torch.tensor([[1e4, 1e4], [-1e4, -1e4], [3e38, 0]], requires_grad=True)
    found = functional.log1p_sum_exp(values, torch.ones(3, 2, dtype=torch.bool), 1)
    found.sum().backward()
    assert (
        found.tolist() == pytest.approx([1e4 + math.log(2), 0, 3e38], rel=1e-6)
        and values.grad.isfinite().all()
    )


def test_log1p_sum_exp_gradient():
    values, mask = matrix()
    assert torch.autograd.gradcheck(
        lambda values: functional.log1p_sum_exp(values, mask, 0), values.requires_grad_()
    )


def test_rowwise_kl():
    first, second = matrix(seed=1)[0], matrix(seed=2)[0]
    for row, (a, b) in enumerate(zip(first.tolist(), second.tolist())):
        p = [math.exp(v) / sum(map(math.exp, a)) for v in a]
        q = [math.exp(v) / sum(map(math.exp, b)) for v in b]
        assert functional.rowwise_kl(first, second)[row].item() == pytest.approx(
            sum(x * math.log(x / y) for x, y in zip(p, q))
        )
    assert functional.rowwise_kl(first, first).abs().max() < 1e-12
    assert functional.rowwise_kl(1e4 * first, 1e4 * second).isfinite().all()


def test_pairwise_distances():
    rows = matrix(6, 3)[0]
    expected = [[math.dist(a, b) for b in rows.tolist()] for a in rows.tolist()]
    torch.testing.assert_close(
        functional.pairwise_distances(rows),
        torch.tensor(expected, dtype=torch.float64),
        atol=1e-7,
        rtol=1e-7,
    )


@pytest.mark.parametrize(
    "rows",
    [
        torch.ones(4, 3),
        torch.zeros(4, 3),
        torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).repeat(2, 1),
    ],
)
def test_equal_rows_have_a_finite_gradient(rows):
    rows = rows.clone().requires_grad_()
    distances = functional.pairwise_distances(rows)
    distances.sum().backward()
    assert distances.diagonal().max() < 1e-2 and rows.grad.isfinite().all()


def test_graph_zero():
    rows = torch.randn(3, 2, requires_grad=True)
    zero = functional.graph_zero(rows)
    zero.backward()
    assert zero.item() == 0 and rows.grad.abs().sum() == 0
