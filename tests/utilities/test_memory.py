"""Memory: what the machine has, and what the limit of a container leaves of it."""

import os

import pytest

from utilities import control_groups, memory

GB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 16 GB with 10 GB available; returns a function that makes a group in it."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {10 * GB // 1024} kB\n")
    (tmp_path / "own").write_text("0::/\n")
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(control_groups, "OWN", tmp_path / "own")
    monkeypatch.setattr(control_groups, "ROOT", tmp_path / "groups")
    sizes = {"SC_PHYS_PAGES": 16 * GB // 4096, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)

    def group(path: str, limit: object, used: int, files: int, version: int = 2) -> None:
        folder = tmp_path / "groups" / path
        folder.mkdir(parents=True, exist_ok=True)
        names = ("memory.max", "memory.current", "inactive_file")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {files}\n")

    return group, tmp_path / "own"


def test_without_a_limit_the_machine_counts(machine):
    assert (memory.total(), memory.free()) == (16 * GB, 10 * GB)


def test_a_limit_of_a_container_counts(machine):
    group, _ = machine
    group(".", 4 * GB, 3 * GB, GB)
    assert (memory.total(), memory.free()) == (4 * GB, 2 * GB)


@pytest.mark.parametrize("limit", ["max", 64 * GB, 2**63 - 4096])
def test_a_limit_that_limits_nothing(machine, limit):
    group, _ = machine
    group(".", limit, GB, 0)
    assert (memory.total(), memory.free()) == (16 * GB, 10 * GB)


def test_the_tightest_of_the_groups_around_counts(machine):
    group, own = machine
    own.write_text("0::/job/step\n")
    group(".", "max", 9 * GB, 0)
    group("job", 3 * GB, 2 * GB, 0)
    group("job/step", 8 * GB, GB, 0)
    assert (memory.total(), memory.free()) == (3 * GB, GB)


@pytest.mark.parametrize("path", ["/", "/docker/of the host"])
def test_groups_of_the_first_version(machine, path):
    group, own = machine
    own.write_text(f"7:cpu,cpuacct:/x\n5:memory:{path}\n0::/\n")
    group("memory", 2 * GB, 3 * GB // 2, GB // 4, version=1)
    assert (memory.total(), memory.free()) == (2 * GB, 3 * GB // 4)


def test_a_full_container_has_nothing_and_no_less(machine):
    group, _ = machine
    group(".", GB, 2 * GB, 0)
    assert memory.free() == 0


def test_a_system_that_does_not_tell(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "nowhere")
    monkeypatch.setattr(control_groups, "OWN", tmp_path / "nowhere")
    assert memory.free() == memory.UNKNOWN
