"""Counts of what ranks above a match, beside the table of all comparisons."""

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from criteria import soft_ranks
from criteria.soft_ranks import counted_above
from utilities.functional import pair_masks

TEMPERATURE = 0.3


def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings, queries, matches and the mask of positives; classes of four."""
    x = torch.randn(rows, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))
    positives, _ = pair_masks(torch.arange(rows) // 4)
    queries, matches = positives.nonzero(as_tuple=True)
    return x.requires_grad_(), queries, matches, positives


def by_the_table(x, queries, matches, among) -> tuple[torch.Tensor, torch.Tensor]:
    unit = normalize(x, dim=1)
    similarities = unit @ unit.T
    gap = similarities[queries] - similarities[queries, matches][:, None]
    others = torch.ones(len(queries), len(x), dtype=torch.bool)
    others.scatter_(1, torch.stack([queries, matches], dim=1), False)
    above = (gap / TEMPERATURE).sigmoid() * others
    return above.sum(1), (above * among[queries]).sum(1)


@pytest.mark.parametrize("block", [1, 50, 2**20])
@pytest.mark.parametrize("with_among", [True, False])
def test_counts_and_gradients_are_those_of_the_table(monkeypatch, block, with_among):
    monkeypatch.setattr(soft_ranks, "BLOCK", block)
    x, queries, matches, positives = batch(13)
    among = positives if with_among else None
    found = counted_above(x, queries, matches, TEMPERATURE, among)
    expected = by_the_table(x, queries, matches, positives * with_among)
    random = torch.Generator().manual_seed(0)
    weights = torch.rand(2, len(queries), dtype=torch.float64, generator=random)
    gradients = []
    for counts in (found, expected):
        loss = (torch.stack(counts) * weights).sum()
        gradients.append(torch.autograd.grad(loss, x)[0])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_pairs_may_be_any_of_the_batch():
    """Where counting them would make a GPU wait, all stand in the list, a query with itself too."""
    x, *_ = batch(6)
    queries, matches = torch.ones(6, 6).nonzero(as_tuple=True)
    among = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) > 0.5
    assert torch.autograd.gradcheck(counted_above, (x, queries, matches, TEMPERATURE, among))
    no_pairs = torch.zeros(0, dtype=torch.long)
    assert [len(count) for count in counted_above(x, no_pairs, no_pairs, TEMPERATURE)] == [0, 0]


def test_no_table_of_all_comparisons_is_held(monkeypatch):
    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                self.numbers = max(self.numbers, made.numel())
            return made

    monkeypatch.setattr(soft_ranks, "BLOCK", 64)
    x, queries, matches, positives = batch(40)
    with Largest() as largest:
        above, among = counted_above(x, queries, matches, TEMPERATURE, positives)
        (above + among).sum().backward()
    assert largest.numbers == 40 * 40 < len(queries) * 40
