"""What every optimiser of the registry must keep."""

from copy import deepcopy

import pytest
import torch
from torch.optim import Optimizer

from training import optimizers, schedules
from utilities.errors import UserError

# The last keeps plain numbers beside its tensors.
OF_TIMM = ["timm:rmsproptf", "timm:adabelief"]
every_optimizer = pytest.mark.parametrize("name", [*optimizers.REGISTRY, *OF_TIMM])


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
    state = optimizers.PlainOptimizer(optimizer).state_dict()
    optimizers.PlainOptimizer(again).load_state_dict(deepcopy(state))
    for vector, value in ((again_fast, fast), (again_slow, slow)):
        vector.data.copy_(value)
    descend(fast, slow, optimizer)
    descend(again_fast, again_slow, again)
    assert torch.equal(fast, again_fast) and torch.equal(slow, again_slow)


@pytest.mark.parametrize("name", optimizers.REGISTRY)
def test_a_group_that_begins_later_begins_as_one_that_begins_at_once(name):
    """A trunk after its warm-up; some optimisers count the steps of a group, not of a weight."""

    def begun_after(steps: int) -> list[torch.Tensor]:
        fast, slow, optimizer = made(name)
        values = []
        for step in range(steps + 3):
            fast.grad = torch.zeros_like(fast)
            slow.grad = 2 * slow.detach() if step >= steps else None
            with optimizers.without_idle_groups(optimizer):
                optimizer.step()
            values.append(slow.detach().clone())
        assert len(optimizer.param_groups) == 2
        return values[steps:]

    for late, at_once in zip(begun_after(20), begun_after(0)):
        torch.testing.assert_close(late, at_once)
    assert begun_after(20)[0].ne(1).all()


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("name", ["timm:adamc", "timm:sgdc", "timm:clionc"])
def test_corrected_decay_goes_by_the_schedule_and_not_by_the_rates_of_other_groups(name, share):
    """A rate that fell to a share of what it was decays by rate x share x decay."""
    fast, slow, optimizer = made(name, weight_decay=0.1)
    for group in optimizer.param_groups:
        group["lr"] *= share
    for vector in (fast, slow):
        vector.grad = torch.zeros_like(vector)
    optimizer.step()
    for vector, rate in ((fast, 1e-2), (slow, 1e-4)):
        torch.testing.assert_close(vector[0].item(), 1 - rate * share**2 * 0.1)


def test_adam_is_that_of_torch_with_decay_in_the_gradient():
    fast, slow, optimizer = made("adam", weight_decay=0.1)
    descend(fast, slow, optimizer)
    by_hand = torch.ones(3, requires_grad=True)
    reference = torch.optim.Adam([by_hand], lr=1e-2, weight_decay=0.1)
    for _ in range(5):
        reference.zero_grad()
        by_hand.square().sum().backward()
        reference.step()
    assert torch.equal(fast, by_hand)


def test_momentum_is_that_of_the_flag():
    for name in ("sgd", "timm:rmsproptf"):
        groups = [{"params": [torch.ones(3, requires_grad=True)], "lr": 1e-2}]
        assert optimizers.select(name, groups, momentum=0.7).defaults["momentum"] == 0.7
    plain = optimizers.select("sgd", groups, momentum=0.0)
    assert not plain.defaults["nesterov"]


@pytest.mark.parametrize(
    "name, said",
    [
        ("timm:lionn", "not known to timm \\(did you mean lion"),
        ("timm:adahessian", "second derivatives"),
        ("timm:bnbadam", "cannot be made here: CUDA required"),
    ],
)
def test_what_cannot_be_had_is_a_sentence(name, said):
    groups = [{"params": [torch.ones(3, requires_grad=True)], "lr": 1e-2}]
    with pytest.raises(UserError, match=f"--optim {name}.*{said}"):
        optimizers.select(name, groups)


def test_vectors_have_groups_of_their_own_without_decay():
    matrix, bias, margins = torch.ones(2, 2), torch.ones(2), torch.ones(3)
    groups = [
        {"params": [matrix, bias], "lr": 1.0, "weight_decay": 0.1, "name": "head"},
        {"params": [margins], "lr": 2.0, "weight_decay": 0.1, "name": "margin beta"},
    ]
    parted = optimizers.without_decay_of_vectors(groups)
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in parted] == [
        ("head", 1.0, 0.1),
        ("head, vectors", 1.0, 0.0),
        ("margin beta", 2.0, 0.0),
    ]
    assert [len(group["params"]) for group in parted] == [1, 1, 1]
    assert parted[1]["params"][0] is bias


def test_a_name_that_there_is_not_is_told_with_those_that_there_are():
    with pytest.raises(ValueError, match="adam, adamw, sgd"):
        optimizers.select("adamx", [])
    with pytest.raises(ValueError, match="step, cosine, none"):
        schedules.select("cosin", made("adam")[2], schedules.Course(1))


def test_groups_of_other_settings_are_told():
    _, _, optimizer = made("adam")
    other = torch.optim.Adam([torch.ones(3, requires_grad=True)])
    with pytest.raises(ValueError, match="2 groups of weights there, 1 here: .*--language_loss"):
        optimizers.PlainOptimizer(other).load_state_dict(optimizer.state_dict())
