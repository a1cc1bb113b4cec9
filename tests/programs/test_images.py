"""From folders, names and images in memory to what a program sees."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.images import ImageSplit
from programs import images
from utilities.errors import UserError


def tree(root: Path, *files: str) -> ImageSplit:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / file)
    return images.below(str(root), "--from")


@pytest.mark.parametrize(
    "files, classes, labels",
    [
        (("b.png", "a.JPG"), [], [-1, -1]),
        (
            ("x/images/cat/b.png", "x/images/cat/a.png", "x/images/ant/c.webp"),
            ["ant", "cat"],
            [0, 1, 1],
        ),
        (("cat/b.png",), ["cat"], [0]),
        (("a.png", "cat/b.png"), ["cat"], [-1, 0]),
        (("train/cat/a.png", "test/cat/b.png"), ["test/cat", "train/cat"], [0, 1]),
        (("cat/a.png", "cat/small/b.png"), ["cat", "cat/small"], [0, 1]),
    ],
)
def test_classes_are_the_folders_below_the_one_that_holds_all(tmp_path, files, classes, labels):
    split = tree(tmp_path, *files)
    assert (
        split.class_texts == classes
        and split.labels.tolist() == labels
        and split.files == sorted(split.files)
    )
    assert all(os.path.isabs(file) for file in split.files)


def test_stray_files_are_passed_over_and_circles_end(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / "around").symlink_to(tmp_path)
    split = tree(tmp_path, "cat/a.png", "cat/._a.png", ".hidden/b.png", "__MACOSX/c.png")
    assert [os.path.basename(file) for file in split.files] == ["a.png"]


def test_missing_images_are_named(tmp_path):
    for paths in ([str(tmp_path)], [str(tmp_path / "no.png")]):
        with pytest.raises(UserError, match=f"--query {paths[0]}: there is no"):
            images.at(paths, "--query")


def test_a_pipe_and_a_device_are_no_images(pipe):
    for path in (str(pipe), "/dev/zero"):
        with pytest.raises(UserError, match=f"--query {path}: it is a pipe or a device"):
            images.at([path], "--query")


def test_given_images_keep_their_order_and_have_no_class(tmp_path):
    tree(tmp_path, "b/2.png", "b/1.png", "a.png")
    in_memory = Image.new("RGB", (7, 5), "red")
    split = images.given([in_memory, str(tmp_path / "b"), tmp_path / "a.png"])
    names = [os.path.relpath(file, tmp_path) for file in split.files[1:]]
    assert names == ["b/1.png", "b/2.png", "a.png"]
    assert split.labels.tolist() == [images.NO_CLASS] * 4 and split.class_texts == []
    source = split.open_image(split.files[0])
    assert (source.height, source.width) == (5, 7)
    assert source.pixels(1, 5).values[0, 0].tolist() == [255, 0, 0]
    assert len(images.given(tmp_path)) == 3 and len(images.given(in_memory)) == 1
    assert len(images.given([])) == 0


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "I;16", "CMYK", "1"])
def test_an_image_in_memory_has_the_pixels_of_its_file(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image
    file = tmp_path / "a.tif"
    (image if mode == "I;16" else image.convert(mode)).save(file)
    with Image.open(file) as opened:
        split = images.given([opened, file])
        in_memory, read = (split.open_image(name).pixels(1, 9).values for name in split.files)
    assert in_memory.tolist() == read.tolist()
