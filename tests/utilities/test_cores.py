"""Cores: those of the affinity, and what the quota of a container leaves of them."""

import os

import pytest
import torch

from utilities import control_groups, cores, runtime


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 16 cores; the folder of its control groups, and the file that says our own."""
    (tmp_path / "own").write_text("0::/job/step\n")
    monkeypatch.setattr(control_groups, "OWN", tmp_path / "own")
    monkeypatch.setattr(control_groups, "ROOT", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    (tmp_path / "groups/job/step").mkdir(parents=True)
    return tmp_path / "groups", tmp_path / "own"


def test_without_a_limit_the_affinity_counts(machine):
    assert cores.usable() == 16


@pytest.mark.parametrize(
    "text, expected",
    [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1)],
)
def test_the_quota_of_a_container(machine, text, expected):
    (machine[0] / "cpu.max").write_text(text + "\n")
    assert cores.usable() == expected


def test_the_tightest_of_the_groups_around_counts(machine):
    (machine[0] / "cpu.max").write_text("max 100000\n")
    (machine[0] / "job/cpu.max").write_text("300000 100000\n")
    (machine[0] / "job/step/cpu.max").write_text("800000 100000\n")
    assert cores.usable() == 3


@pytest.mark.parametrize("quota, expected", [(-1, 16), (400000, 4), (2400000, 16)])
def test_the_first_version_of_control_groups(machine, quota, expected):
    groups, own = machine
    own.write_text("5:memory:/x\n4:cpu,cpuacct:/docker/abc\n")
    (groups / "cpu,cpuacct").mkdir()
    (groups / "cpu,cpuacct/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (groups / "cpu,cpuacct/cpu.cfs_period_us").write_text("100000\n")
    assert cores.usable() == expected


def test_a_system_without_groups(machine, monkeypatch):
    monkeypatch.setattr(control_groups, "OWN", machine[0] / "none")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable() == 1


@pytest.mark.parametrize("usable, expected", [(2, 2), (64, 5)])
def test_torch_takes_no_more_threads_than_cores(monkeypatch, usable, expected):
    before = torch.get_num_threads()
    monkeypatch.setattr(cores, "usable", lambda: usable)
    torch.set_num_threads(5)
    try:
        runtime.use_own_cores()
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
