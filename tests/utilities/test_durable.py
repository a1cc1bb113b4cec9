"""Durable files: written through before they get their name, and the name after."""

import errno
import os
import subprocess

import numpy as np
import pytest
import safetensors.torch
import torch

from utilities import durable
from utilities.errors import UserError


@pytest.fixture
def steps(monkeypatch):
    """What is asked of the system, in order."""
    seen = []
    fsync, replace = os.fsync, os.replace

    def flushed(opened: int) -> None:
        seen.append(("flush", os.readlink(f"/proc/self/fd/{opened}")))
        fsync(opened)

    def replaced(source, target) -> None:
        seen.append(("replace", os.fspath(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", replaced)
    return seen


def test_content_then_name_then_folder(tmp_path, steps):
    temporary, path = tmp_path / "a.tmp", tmp_path / "a"
    temporary.write_text("whole")
    path.write_text("old")
    durable.replace(temporary, path)
    assert path.read_text() == "whole" and not temporary.exists()
    assert steps == [
        ("flush", str(temporary)),
        ("replace", str(path)),
        ("flush", str(tmp_path)),
    ]


def test_a_file_that_cannot_be_flushed_does_not_replace(tmp_path, monkeypatch):
    temporary, path = tmp_path / "a.tmp", tmp_path / "a"
    temporary.write_text("half")
    path.write_text("old")

    def fail(opened: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        durable.replace(temporary, path)
    assert path.read_text() == "old"
    durable.flush(tmp_path)  # of a folder it is the file system's own affair


def test_what_killed_processes_left_is_removed(tmp_path):
    path = tmp_path / "a[1].pt"
    ended = subprocess.Popen(["true"])
    ended.wait()
    ours = durable.temporary_for(path)
    assert ours.parent == tmp_path and ours == durable.temporary_for(path)
    left = ours.with_name(ours.name.replace(str(os.getpid()), str(ended.pid)))
    others = [ours, tmp_path / "a.pt", tmp_path / f"a[1].pt.elsewhere-{ended.pid}.tmp"]
    for file in (left, *others):
        file.write_text("half")
    durable.temporary_for(path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    with durable.written(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "number, end",
    [
        (errno.ENOSPC, "a.txt cannot be written (No space left on device); is the disk full?"),
        (errno.EACCES, "a.txt cannot be written (Permission denied)."),
    ],
)
def test_what_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path, number, end):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UserError) as told, durable.written(path, "--to a.txt") as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert str(told.value) == f"--to {end}"
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "write",
    [
        lambda rows, path: torch.save({"rows": rows}, path),
        lambda rows, path: safetensors.torch.save_file({"rows": rows}, path),
        lambda rows, path: np.save(path.open("wb"), rows.numpy()),
        lambda rows, path: path.write_bytes(bytes(10**6)),
    ],
    ids=["torch", "safetensors", "numpy", "bytes"],
)
def test_a_disk_that_takes_no_more_is_told_alike_for_every_writer(tmp_path, small_files, write):
    path = tmp_path / "a"
    path.write_text("old")
    with small_files(), pytest.raises(UserError) as told, durable.written(path) as temporary:
        write(torch.zeros(10**6), temporary)
    message = str(told.value)
    assert message.startswith(f"{path} cannot be written (")
    assert message.endswith("; is the disk full?") and "inline_container" not in message
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_gone_is_a_sentence(tmp_path):
    """torch says that in a type of its own, too."""
    path = tmp_path / "gone" / "a"
    with pytest.raises(UserError, match="cannot be written"), durable.written(path) as temporary:
        torch.save({}, temporary)


def test_what_is_not_about_the_file_passes(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), durable.written(tmp_path / "a"):
        raise RuntimeError("shapes")
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), durable.written(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_name_too_long_for_the_system_is_a_sentence(tmp_path):
    path = tmp_path / ("a" * 250)
    with pytest.raises(UserError, match="cannot be written"), durable.written(path) as temporary:
        temporary.write_text("whole")
