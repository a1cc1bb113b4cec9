"""Tests of the built-in demo dataset."""

import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import shapes

CLASSES = 6
IMAGES_PER_CLASS = 2


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `ensure_rendered` draw a small part of the dataset."""
    draw_few = partial(shapes.render, classes=CLASSES, images_per_class=IMAGES_PER_CLASS)
    monkeypatch.setattr(shapes, "render", draw_few)


def file_contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_names_are_unique_and_natural():
    names = [look.name for look in shapes.class_looks()]
    assert len(set(names)) == len(names) == shapes.CLASSES >= 100
    assert all(re.fullmatch(r"[a-z]+( [a-z]+){2,3}", name) for name in names)


def test_each_half_shows_every_attribute():
    looks = shapes.class_looks()
    middle = len(looks) // 2
    assert not set(looks[:middle]) & set(looks[middle:])
    for half in (looks[:middle], looks[middle:]):
        tones, colors, patterns, outlines = map(set, zip(*half))
        assert tones == set(shapes.TONES)
        assert colors == set(shapes.COLORS)
        assert patterns == set(shapes.PATTERNS)
        assert outlines == set(shapes.SHAPES)


def test_shapes_fit_their_radius():
    for outline in shapes.SHAPES.values():
        assert 0.6 < np.abs(outline).max() <= 1.05


def test_layout_and_images(tmp_path: Path):
    shapes.render(tmp_path, classes=CLASSES, images_per_class=IMAGES_PER_CLASS)
    folders = sorted((tmp_path / "images").iterdir())
    expected = [
        f"{number:03d}.{look.name.replace(' ', '_')}"
        for number, look in enumerate(shapes.class_looks()[:CLASSES], start=1)
    ]
    assert [folder.name for folder in folders] == expected
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["0001.jpg", "0002.jpg"]
        for path in folder.iterdir():
            with Image.open(path) as image:
                assert image.format == "JPEG"
                assert image.mode == "RGB"
                assert image.size == (shapes.IMAGE_SIZE, shapes.IMAGE_SIZE)
                assert np.asarray(image).std() > 5


def test_every_class_can_be_drawn():
    for look in shapes.class_looks():
        assert np.asarray(shapes.draw_image(look, np.random.default_rng(0))).std() > 5


def test_rendering_is_deterministic(tmp_path: Path):
    shapes.render(tmp_path / "a", classes=CLASSES, images_per_class=IMAGES_PER_CLASS)
    shapes.render(tmp_path / "b", classes=CLASSES, images_per_class=IMAGES_PER_CLASS)
    contents = file_contents(tmp_path / "a")
    assert contents == file_contents(tmp_path / "b")
    assert len(set(contents.values())) == CLASSES * IMAGES_PER_CLASS


def test_images_do_not_depend_on_how_many_are_rendered(tmp_path: Path):
    shapes.render(tmp_path / "few", classes=2, images_per_class=1)
    shapes.render(tmp_path / "more", classes=3, images_per_class=2)
    few, more = file_contents(tmp_path / "few"), file_contents(tmp_path / "more")
    assert len(few) == 2
    assert few.items() <= more.items()


def test_renders_only_once(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "source" / "shapes"
    shapes.ensure_rendered(folder)
    contents = file_contents(folder)
    assert len(contents) == CLASSES * IMAGES_PER_CLASS
    assert os.listdir(folder.parent) == ["shapes"]

    monkeypatch.setattr(shapes, "render", lambda folder: pytest.fail("rendered again"))
    shapes.ensure_rendered(folder)
    assert file_contents(folder) == contents


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_interrupted_rendering_leaves_nothing(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
):
    drawn: list[shapes.Look] = []
    draw_image = shapes.draw_image

    def draw_two_images(look: shapes.Look, rng: np.random.Generator) -> Image.Image:
        if len(drawn) == 2:
            raise error
        drawn.append(look)
        return draw_image(look, rng)

    monkeypatch.setattr(shapes, "draw_image", draw_two_images)
    with pytest.raises(error):
        shapes.ensure_rendered(tmp_path / "shapes")
    assert len(drawn) == 2
    assert os.listdir(tmp_path) == []


def test_concurrent_rendering(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch):
    """Another run finishes while this one is still rendering."""
    folder = tmp_path / "shapes"
    render = shapes.render

    def render_both(own_folder: Path) -> None:
        render(folder)
        render(own_folder)

    monkeypatch.setattr(shapes, "render", render_both)
    shapes.ensure_rendered(folder)
    assert len(file_contents(folder)) == CLASSES * IMAGES_PER_CLASS
    assert os.listdir(tmp_path) == ["shapes"]


def test_errors_of_moving_the_dataset_are_raised(tmp_path: Path, small: None):
    (tmp_path / "shapes").write_text("a file is in the way")
    with pytest.raises(OSError):
        shapes.ensure_rendered(tmp_path / "shapes")
    assert os.listdir(tmp_path) == ["shapes"]
