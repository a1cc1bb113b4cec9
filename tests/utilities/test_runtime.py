"""A process by itself; memory that is kept. Several of them: tests/distributed."""

import ctypes

import pytest
import torch

from utilities import runtime
from utilities.runtime import Runtime

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h

ROWS = torch.arange(12, dtype=torch.float64).reshape(6, 2)


@pytest.mark.parametrize(("threads", "said"), [(1, "CPU (1 thread), fp32"), (2, "CPU (2 threads)")])
def test_a_device_is_described(monkeypatch, threads, said):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert Runtime().describe().startswith(said)


def test_one_process_gathers_its_own_rows():
    assert Runtime().gather(ROWS, 6) is ROWS and Runtime().is_main


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
