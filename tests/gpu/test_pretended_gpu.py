"""The pretended GPU refuses what CUDA refuses, takes what CUDA takes, computes as the CPU does."""

import io
import multiprocessing
from collections import Counter

import pretended_gpu
import pytest
import torch
from pretended_gpu import DEVICE
from torch.nn.functional import cross_entropy, dropout


def x() -> torch.Tensor:
    return torch.arange(12.0).view(4, 3).to(DEVICE)


REFUSED = {
    "add": lambda: x() + torch.ones(3),
    "where": lambda: torch.where(x() > 1, x(), torch.ones(4, 3)),
    "matmul": lambda: x() @ torch.ones(3),
    "stack of a number": lambda: torch.stack([x().sum(), torch.tensor(1.0)]),
    "number in place": lambda: torch.tensor(1.0).add_(x().sum()),
    "host in place": lambda: torch.ones(3).add_(x()[0]),
    "out": lambda: torch.mm(x(), x().T, out=torch.empty(4, 4)),
    "gather": lambda: x().gather(1, torch.zeros(4, 1, dtype=torch.long)),
    "index_select": lambda: x().index_select(0, torch.tensor([1])),
    "host indexed by the device": lambda: torch.ones(4)[x()[:, 0].long()],
    "values of the host": lambda: x().index_put_((torch.tensor([1]),), torch.ones(1, 3)),
    "mask": lambda: x().masked_fill(torch.ones(4, 3, dtype=torch.bool), 0.0),
    "searchsorted": lambda: torch.searchsorted(x(), torch.ones(4, 1)),
    "generator": lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()),
    "loss": lambda: cross_entropy(x(), torch.zeros(4, dtype=torch.long)),
    "module": lambda: torch.nn.Linear(3, 2)(x()),
}
TAKEN = {
    "number": lambda: x() * torch.tensor(2.0) + 1,
    "number first": lambda: torch.tensor(2.0) - x(),
    "clamp by a number": lambda: x().clamp(min=torch.tensor(2.0)),
    "index": lambda: x()[torch.tensor([1, 0])],
    "list": lambda: x()[:, [0, 2]],
    "assignment": lambda: x().index_put_((torch.tensor([1]),), torch.tensor(7.0)),
    "copy": lambda: x().copy_(torch.ones(4, 3)),
    "filled": lambda: x().masked_fill(x() > 3, torch.tensor(0.0)),
    "made": lambda: torch.tensor([[1.0, 2.0]], device=DEVICE),
    "triangle": lambda: torch.triu_indices(3, 3, device=DEVICE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    with pytest.raises(RuntimeError, match="same device|device type for generator"):
        REFUSED[name]()


@pytest.mark.parametrize("name", TAKEN)
def test_takes(name):
    assert TAKEN[name]().device == DEVICE


def test_numpy_needs_a_copy():
    with pytest.raises(TypeError, match=r"Tensor\.cpu"):
        x().numpy()
    assert x().cpu().numpy().tolist() == x().tolist() == torch.arange(12.0).view(4, 3).tolist()


def test_views_share_and_autograd_sees_changes_in_place():
    leaf = x().requires_grad_()
    doubled = leaf * 2
    doubled[0] = 1
    doubled.view(-1)[3] = 5
    doubled.sum().backward()
    assert doubled.tolist()[:2] == [[1, 1, 1], [5, 8, 10]]
    assert leaf.grad is not None and leaf.grad.tolist()[:2] == [[0, 0, 0], [0, 2, 2]]


def made(device: torch.device) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 2),
    ).to(device)
    return network, torch.optim.Adam(network.parameters(), lr=0.1)


def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> float:
    images = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(1)).to(device)
    optimizer.zero_grad()
    loss = network(images).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_training_saving_and_resuming():
    cpu = torch.device("cpu")
    there, here = made(DEVICE), made(cpu)
    losses = [step(*there, DEVICE) for _ in range(3)]
    assert losses == pytest.approx([step(*here, cpu) for _ in range(3)])
    file = io.BytesIO()
    torch.save([part.state_dict() for part in there], file)
    file.seek(0)
    resumed = made(DEVICE)
    states = torch.load(file, map_location="cpu", weights_only=True)
    for part, state in zip(resumed, states):
        part.load_state_dict(state)
    assert {state["exp_avg"].device for state in resumed[1].state.values()} == {DEVICE}
    assert step(*resumed, DEVICE) == step(*there, DEVICE)


def test_autocast_and_inference():
    layer = torch.nn.Linear(3, 2).to(DEVICE)
    with torch.autocast("pgpu", dtype=torch.bfloat16):
        assert layer(x()).dtype == torch.bfloat16
        assert layer(x()).logsumexp(1).dtype == torch.float32
    with torch.inference_mode():
        assert layer(x()).is_inference() and not layer.weight[0].is_inference()


def test_draws_are_those_of_the_seed_and_leave_the_cpu_alone():
    def drawn() -> list[torch.Tensor]:
        return [torch.rand(3, device=DEVICE), dropout(x()), torch.randperm(9, device=DEVICE)]

    torch.manual_seed(3)
    first, after = drawn(), torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), after)
    assert all(map(torch.equal, first, drawn()))


def test_counts_waits_by_line():
    with pretended_gpu.waits() as seen, pretended_gpu.pinned_memory():
        given = x(), torch.ones(3).to(DEVICE), torch.ones(3).to(DEVICE, non_blocking=True)
        torch.ones(3).pin_memory().to(DEVICE, non_blocking=True)
        _ = given[0].sum().item(), bool(given[0].any()), given[0].nonzero(), given[0].unique()
        _ = given[0][given[0] > 3], given[0].cpu(), given[0][torch.tensor([1])]
        _ = given[0].topk(2), given[0].clone().add_(1), given[0].sort(), torch.tensor(2.0) * x()
    kinds: Counter = Counter()
    for (kind, _), number in seen.items():
        kinds[kind] += number
    assert kinds == {
        "copy from the host": 3,
        "item": 2,
        "nonzero": 1,
        "nonzero of a mask": 1,
        "_unique2": 1,
        "copy to the host": 1,
        "index from the host": 1,
        "copy from the host, not awaited": 1,
        "copy from the host, not awaited (pageable)": 1,
    }
    assert all(place.rpartition(":")[0].endswith("test_pretended_gpu.py") for _, place in seen)


def test_a_forked_process_may_not_touch_it():
    x()
    with multiprocessing.get_context("fork").Pool(1) as pool, pytest.raises(RuntimeError) as error:
        pool.apply(torch.zeros, (3,), {"device": "pgpu"})
    assert "forked" in str(error.value)
