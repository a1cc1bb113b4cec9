"""Durable files: written through before they get their name, and the name after."""

import os

import pytest

from utilities import durable


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
