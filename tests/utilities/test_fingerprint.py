"""Data is recognised by what it holds."""

import os
import shutil

import numpy as np
import pytest

from utilities.fingerprint import differences, fingerprint, stamps


@pytest.fixture
def data(tmp_path):
    """Files, labels and class names of four images."""
    files = [tmp_path / "data" / name for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png")]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * number)
    return list(map(str, files)), np.array([0, 0, 1, 1]), ["a", "b"]


def test_a_moved_folder_is_the_same(data, tmp_path, monkeypatch):
    files, labels, names = data
    stored = fingerprint(*data)
    shutil.move(tmp_path / "data", tmp_path / "moved")
    moved = [file.replace("/data/", "/moved/") for file in files]
    assert differences(stored, fingerprint(moved, labels, names)) == []
    monkeypatch.chdir(tmp_path)
    relative = [file.replace(f"{tmp_path}/", "") for file in moved]
    assert differences(stored, fingerprint(relative, labels, names)) == []


def test_what_differs_is_named(data, tmp_path):
    files, labels, names = data
    stored = fingerprint(*data)
    assert differences(stored, fingerprint(files[:3], labels[:3], names))[0] == "4 images (here 3)"
    renamed = fingerprint(files, labels, ["a", "c"])
    assert differences(stored, renamed) == ["other class names"]
    assert differences(stored, fingerprint(files, labels[::-1], names)) == ["other labels"]
    boxes = np.ones((4, 4), dtype=np.int64)
    assert differences(stored, fingerprint(*data, boxes)) == ["other boxes"]
    (tmp_path / "data" / "a" / "1.png").write_bytes(b"other pixels")
    sizes_and_all = ["other file sizes", "other file contents"]
    assert differences(stored, fingerprint(*data)) == sizes_and_all


def test_other_content_of_the_same_size_and_time_is_seen(data, tmp_path):
    """As of images without compression in an archive that gives all its files one time."""
    file = tmp_path / "data" / "b" / "1.png"
    stored, [before] = fingerprint(*data), stamps([file])
    file.write_bytes(b"y" * file.stat().st_size)
    os.utime(file, ns=(before[1], before[1]))
    assert differences(stored, fingerprint(*data)) == ["other file contents"]
    [after] = stamps([file])
    assert after[:2] == before[:2] and after != before
    older = {name: value for name, value in stored.items() if name != "file contents"}
    assert differences(older, fingerprint(*data)) == []


def test_of_many_files_some_are_looked_into(tmp_path, monkeypatch):
    files = [tmp_path / str(number) for number in range(7)]
    for file in files:
        file.write_bytes(b"pixels")
    monkeypatch.setattr("utilities.fingerprint.LOOKED_INTO", 3)
    contents = [content for _, _, content in stamps(files)]
    assert [bool(content) for content in contents] == [True, False, False] * 2 + [True]


def test_names_of_any_bytes(tmp_path):
    assert fingerprint(["caf\udce9/0.png"], np.array([0]), ["caf\udce9"])["images"] == 1
