"""Data is recognised by what it holds."""

import os
import shutil

import numpy as np
import pytest

from utilities.fingerprint import contents, differences, files_below, fingerprint, stamps
from utilities.open_clip_models import identity


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


@pytest.fixture
def model(tmp_path):
    """A model's folder of a file, a folder, and links to a file, a folder and back to itself."""
    folder, outside = tmp_path / "model", tmp_path / "outside"
    for place in (folder / "inner", outside / "pooling"):
        place.mkdir(parents=True)
    for file in ("model/a", "model/inner/b", "outside/c", "outside/pooling/d"):
        (tmp_path / file).write_text("mean")
    (folder / "linked").symlink_to(outside / "c")
    (folder / "pooling").symlink_to(outside / "pooling")
    (folder / "back").symlink_to(folder)
    (folder / "gone").symlink_to(outside / "gone")
    return folder


def test_files_below_a_folder_are_found_through_links_once(model):
    found = [str(file.relative_to(model)) for file in files_below(model)]
    assert found == ["a", "inner/b", "linked", "pooling/d"]
    assert files_below(model / "a") == [model / "a"]
    assert files_below(model / "gone") == []


@pytest.mark.parametrize("file", ["a", "inner/b", "linked", "pooling/d"])
@pytest.mark.parametrize(
    "known_by", [contents, lambda folder: identity("hf", str(folder))], ids=["contents", "identity"]
)
def test_a_model_is_another_where_a_file_of_it_says_something_else(model, known_by, file):
    before = known_by(model)
    assert known_by(model) == before
    (model / file).write_text("last")
    assert known_by(model) != before
