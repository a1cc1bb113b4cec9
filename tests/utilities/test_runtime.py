"""Rows of several processes as those of one batch, with their gradient; memory that is kept."""

import ctypes

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from utilities import runtime
from utilities.runtime import Runtime

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h

ROWS = torch.arange(12, dtype=torch.float64).reshape(6, 2)
WEIGHTS = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(6, 2)


def loss(rows: torch.Tensor) -> torch.Tensor:
    return ((rows * WEIGHTS).sum(1).square()).sum()


def work(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    try:
        share = ROWS.chunk(world_size)[rank].clone().requires_grad_()
        gathered = Runtime(rank=rank, world_size=world_size).gather(share)
        loss(gathered).backward()
        torch.save((gathered.detach(), share.grad), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_gathered_rows_are_the_batch_and_take_gradients_of_all_processes(tmp_path):
    mp.spawn(work, (2, str(tmp_path)), nprocs=2)
    whole = ROWS.clone().requires_grad_()
    loss(whole).backward()
    for rank in range(2):
        gathered, gradient = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(gathered, ROWS)
        # Both processes' losses are of the whole batch: a row gets the gradient of each.
        torch.testing.assert_close(gradient, 2 * whole.grad.chunk(2)[rank])


def test_one_process_gathers_its_own_rows():
    assert Runtime().gather(ROWS) is ROWS and Runtime().is_main


class GlibC:
    """Notes what its malloc is told."""

    def __init__(self) -> None:
        self.told: dict[int, int] = {}

    def mallopt(self, parameter: int, value: int) -> int:
        self.told[parameter] = value
        return 1


@pytest.mark.parametrize(
    "variables, kept",
    [({}, {TRIM, MMAP}), ({"MALLOC_MMAP_THRESHOLD_": "65536"}, {TRIM})],
    ids=["usually", "where a person says otherwise"],
)
def test_freed_memory_is_kept(monkeypatch, variables, kept):
    library = GlibC()
    for variable in runtime.ALLOCATION:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    runtime.keep_freed_memory()
    assert library.told == dict.fromkeys(kept, 2**31 - 1)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    runtime.keep_freed_memory()
