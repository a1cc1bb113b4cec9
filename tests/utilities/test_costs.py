"""What epochs cost, and how long a run has still to go."""

import numpy as np
import pytest
import torch

from utilities import costs
from utilities.costs import Costs, Pace


@pytest.fixture
def clock(monkeypatch):
    """Epochs of so many seconds pass by."""
    time = [100.0]
    monkeypatch.setattr(costs.time, "monotonic", lambda: time[0])

    def passing(pace: Pace, *seconds: float) -> None:
        for each in seconds:
            time[0] += each
            pace.end_epoch()

    return passing


def test_the_time_left_counts_the_evaluations_that_are_ahead(clock):
    pace = Pace(0, 10, 3)  # evaluated are epochs 3, 6, 9 and 10
    clock(pace, 20, 10)
    assert pace.is_lower_bound() and pace.remaining() == 8 * 15
    clock(pace, 60, 10)
    assert not pace.is_lower_bound()
    assert pace.remaining() == 3 * 60 + 3 * 10
    clock(pace, 10, 60, 10, 10, 60)
    assert pace.remaining() == 60
    clock(pace, 60)
    assert pace.remaining() == 0 and not pace.ahead


def test_a_resumed_run_estimates_what_is_left_of_it(clock):
    pace = Pace(97, 100, 1)
    clock(pace, 30)
    assert pace.remaining() == 60


def test_an_epoch_that_was_left_is_as_long_as_others(clock):
    pace = Pace(3, 10, 1)
    pace.count(40)
    clock(pace, 2)
    assert pace.remaining() == 6 * 42


def test_one_slow_epoch_says_little_of_the_next(clock):
    pace = Pace(0, 6, 1)
    clock(pace, 500, 10, 10)
    assert pace.remaining() == 30


@pytest.mark.parametrize("every, evaluated", [(1, [0, 1, 2, 3]), (3, [2, 3]), (9, [3])])
def test_the_last_epoch_is_always_evaluated(every, evaluated):
    assert [epoch for epoch in range(4) if costs.is_evaluated(epoch, 4, every)] == evaluated


def test_the_peak_of_the_host_is_that_of_this_process():
    taken = np.ones(2**27 // 8)  # 128 MB, touched
    with open("/proc/self/status") as file:
        resident = next(line for line in file if line.startswith("VmRSS"))
    del taken
    peak = costs.peak_memory(torch.device("cpu"))
    assert peak.keys() == {"host_gb"}
    # The kernel counts both a little late.
    assert peak["host_gb"] > 0.99 * int(resident.split()[1]) / 2**20


def test_the_peak_of_the_gpu_is_that_of_the_run(monkeypatch):
    peak = {"now": 7 * 2**30}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak["now"])
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda device: peak.update(now=2**30)
    )
    gpu = torch.device("cuda", 0)
    assert costs.peak_memory(gpu)["gpu_gb"] == 7
    costs.reset_gpu_peak(gpu)
    assert costs.peak_memory(gpu)["gpu_gb"] == 1


def test_costs_are_recorded_as_families():
    spent = Costs({"trunk": 1e-5, "head": 1e-3}, 120.0, {"host_gb": 2.0})
    assert spent.families() == {
        "learning_rate": {"trunk": 1e-5, "head": 1e-3},
        "images_per_second": {"images_per_second": 120.0},
        "peak_memory": {"host_gb": 2.0},
    }
