"""Where runs compute: GPUs as the environment or the driver tells, shares of the cores."""

import stat

import pytest

from programs.sweeping import machine
from programs.sweeping.machine import Slot

TWO_GPUS = "GPU 0: H100 (UUID: GPU-1)\\n  MIG 1g\\nGPU 1: H100 (UUID: GPU-2)\\n"


@pytest.mark.parametrize(
    "visible, driver, found",
    [
        (None, f"printf '{TWO_GPUS}'", ["0", "1"]),
        (None, "echo NVIDIA-SMI has failed >&2; exit 9", []),
        (None, None, []),
        ("2, GPU-ab", f"printf '{TWO_GPUS}'", ["2", "GPU-ab"]),
        ("", f"printf '{TWO_GPUS}'", []),
    ],
)
def test_gpus_are_found_without_torch(tmp_path, monkeypatch, visible, driver, found):
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv(machine.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(machine.VISIBLE, visible)
    if driver is None:
        monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    else:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n[ $1 = -L ] && {driver}\n")
        (tmp_path / "nvidia-smi").chmod(stat.S_IRWXU)
    assert machine.gpus() == found


def test_jobs_share_gpus_and_cores(monkeypatch):
    monkeypatch.setattr("utilities.cores.usable", lambda: 8)
    assert machine.slots(None, []) == [Slot(None, 8)]
    assert machine.slots(3, []) == [Slot(None, 2)] * 3
    assert machine.slots(None, ["0", "1"]) == [Slot("0", 4), Slot("1", 4)]
    assert machine.slots(3, ["0", "1"]) == [Slot("0", 2), Slot("1", 2), Slot("0", 2)]
    assert machine.slots(20, []) == [Slot(None, 1)] * 20


def test_what_the_environment_says_counts(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv(machine.VISIBLE, "0,1")
    assert Slot(None, 2).environment()["OMP_NUM_THREADS"] == "5"
    assert Slot("1", 2).environment()[machine.VISIBLE] == "1"
    assert Slot(None, 2).environment()[machine.VISIBLE] == "0,1"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert Slot(None, 2).environment()["OMP_NUM_THREADS"] == "2"
