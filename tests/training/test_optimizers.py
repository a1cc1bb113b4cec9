"""What every optimiser of the registry must keep."""

from copy import deepcopy

import pytest
import torch
from torch.optim import Optimizer

from training import optimizers

every_optimizer = pytest.mark.parametrize("name", optimizers.REGISTRY)


def made(name: str, *, weight_decay: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, Optimizer]:
    """Two vectors at one, of groups whose learning rates differ, and their optimiser."""
    fast, slow = (torch.ones(3, requires_grad=True) for _ in range(2))
    groups = [
        {"params": [fast], "lr": 1e-2, "weight_decay": weight_decay},
        {"params": [slow], "lr": 1e-4, "weight_decay": weight_decay},
    ]
    return fast, slow, optimizers.select(name, groups)


def descend(fast: torch.Tensor, slow: torch.Tensor, optimizer: Optimizer, steps: int = 5) -> None:
    """Steps on the sum of squares."""
    for _ in range(steps):
        optimizer.zero_grad()
        (fast.square().sum() + slow.square().sum()).backward()
        optimizer.step()


@every_optimizer
def test_each_group_descends_at_its_own_rate(name):
    fast, slow, optimizer = made(name)
    descend(fast, slow, optimizer)
    assert (fast < slow).all() and (slow < 1).all()
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 1e-4]


@every_optimizer
def test_weight_decay_shrinks_what_has_no_gradient(name):
    fast, slow, optimizer = made(name, weight_decay=0.1)
    for vector in (fast, slow):
        vector.grad = torch.zeros_like(vector)
    optimizer.step()
    assert (fast < 1).all() and (slow < 1).all()


@every_optimizer
def test_a_restored_state_goes_on_as_the_stored_one(name):
    fast, slow, optimizer = made(name)
    descend(fast, slow, optimizer)
    again_fast, again_slow, again = made(name)
    again.load_state_dict(deepcopy(optimizer.state_dict()))
    for vector, value in ((again_fast, fast), (again_slow, slow)):
        vector.data.copy_(value)
    descend(fast, slow, optimizer)
    descend(again_fast, again_slow, again)
    assert torch.equal(fast, again_fast) and torch.equal(slow, again_slow)
