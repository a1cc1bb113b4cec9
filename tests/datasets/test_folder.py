"""The folder scan, the splits and reading images of any kind."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets import folder, scan
from datasets.images import BrokenImage, ImageSplit, read_rgb
from utilities.errors import UserError

FOUR = ("1.a", "2.b", "3.c", "4.d")


def make(root: Path, classes, images: int = 2, dataset: str = "made") -> Path:
    """Class folders with small images below `root/<dataset>/images`."""
    for name in classes:
        (root / dataset / "images" / name).mkdir(parents=True)
        for number in range(images):
            image = Image.new("RGB", (12, 10), (40 * number, 0, 0))
            image.save(root / dataset / "images" / name / f"{number}.jpg")
    return root


def texts(listing) -> list[str]:
    return [category.text for category in listing.categories]


def whole(root: Path, transform=None) -> ImageSplit:
    """All images of `root/made` as one split."""
    listing = folder.read_classes(root / "made")
    return ImageSplit(listing.files, listing.labels, texts(listing), transform=transform)


@pytest.mark.parametrize(
    "names, expected",
    [
        (["10.x", "2.x", "1.a_b", "003.c"], ["a b", "x", "c", "x"]),
        (["b", "a_a", "C", "10"], ["10", "C", "a a", "b"]),
        (["10.x", "2.x", "1.a", "named"], ["1.a", "10.x", "2.x", "named"]),
        (
            ["001.Black_footed_Albatross", "002.B", "003.C", "004.1.5_liter_car"],
            ["Black footed Albatross", "B", "C", "1.5 liter car"],
        ),
    ],
)
def test_order_and_texts_of_the_classes(tmp_path, names, expected):
    make(tmp_path, names)
    assert texts(folder.read_classes(tmp_path / "made")) == expected


def test_only_images_in_class_folders_count(tmp_path):
    images = make(tmp_path, FOUR) / "made" / "images"
    (images / "5.empty").mkdir()
    (images / ".hidden").mkdir()
    (images / "._6.apple").mkdir()
    Image.new("RGB", (4, 4)).save(images / ".hidden" / "0.jpg")
    Image.new("RGB", (4, 4)).save(images / "._6.apple" / "0.jpg")
    Image.new("RGB", (4, 4)).save(images / "stray.jpg")
    (images / ".DS_Store").write_bytes(b"x")
    for name in (".DS_Store", "._0.jpg", "notes.txt", "0.jpg.part", "jpg"):
        (images / "1.a" / name).write_bytes(b"x")
    (images / "1.a" / "folder.jpg").mkdir()
    found = folder.read_classes(tmp_path / "made")
    assert texts(found) == ["a", "b", "c", "d"]
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [Path(file).name for file in found.files] == ["0.jpg", "1.jpg"] * 4


def test_extensions_of_any_case(tmp_path):
    make(tmp_path, FOUR, images=0)
    for name in FOUR:
        for extension in ("JPG", "jpeg", "Png", "BMP", "webp", "tif", "gif"):
            Image.new("RGB", (4, 4)).save(tmp_path / "made" / "images" / name / f"a.{extension}")
    assert np.bincount(folder.read_classes(tmp_path / "made").labels).tolist() == [7] * 4


def test_linked_class_folders_count(tmp_path):
    make(tmp_path, FOUR[:3])
    make(tmp_path, ["4.d"], dataset="elsewhere")
    os.symlink(tmp_path / "elsewhere" / "images" / "4.d", tmp_path / "made" / "images" / "4.d")
    assert len(folder.read_classes(tmp_path / "made").categories) == 4


READ = "jfif jpe JFIF pjpeg mpo jp2 j2k JPEG2000 avif tga qoi pcx ico pgm pnm apng"


@pytest.mark.parametrize("ending", READ.split())
def test_whatever_can_be_opened_is_read(tmp_path, caplog, ending):
    caplog.set_level(logging.INFO, "datasets")
    images = make(tmp_path, FOUR) / "made" / "images"
    kind = {"jfif": "JPEG", "jpe": "JPEG", "pjpeg": "JPEG", "mpo": "JPEG", "jpeg2000": "JPEG2000"}
    picture = Image.new("RGB", (16, 16), (200, 10, 10))
    made = images / "4.d" / f"new.{ending}"
    picture.save(made, format=kind.get(ending.lower()))
    found = folder.read_classes(tmp_path / "made")
    assert str(made) in found.files and read_rgb(str(made)).getpixel((8, 8))[0] > 150
    assert f"8 *.jpg, 1 *.{ending.lower()}" in caplog.text


def told(root: Path, caplog) -> str:
    """What is said of `root/made`, which has four classes of two images."""
    assert np.bincount(folder.read_classes(root / "made").labels).tolist() == [2] * 4
    assert caplog.text.count("Left out below") <= 1
    return caplog.text


@pytest.mark.parametrize(
    "name, reason",
    [
        ("4.d/a.heic", "files *.heic, which cannot be opened here (4.d/a.heic)"),
        ("4.d/A.CR2", "files *.cr2, which cannot be opened here (4.d/A.CR2)"),
        ("4.d/.a.jpg", "images that are hidden or in hidden or system folders (4.d/.a.jpg)"),
        (".e/a.jpg", "images that are hidden or in hidden or system folders (.e/a.jpg)"),
        (
            "1.a/@eaDir/a/b.jpg",
            "images that are hidden or in hidden or system folders (1.a/@eaDir/a/b.jpg)",
        ),
        ("1.a/deeper/a.jpg", "images in folders below the class folders (1.a/deeper/a.jpg)"),
        ("a.jpg", "images in no class folder (a.jpg)"),
        ("5.e/notes.txt", "folders without images (5.e)"),
    ],
)
def test_images_that_are_left_out_are_told(tmp_path, caplog, name, reason):
    path = make(tmp_path, FOUR) / "made" / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert f": 1 {reason}" in told(tmp_path, caplog)


@pytest.mark.parametrize("name", ["0", "0.img", "0.jpg~", "0.jpg?size=large", "0.PNG.1"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_images_by_their_content_are_told(tmp_path, caplog, name, kind):
    images = make(tmp_path, FOUR) / "made" / "images"
    Image.new("RGB", (4, 4)).save(images / "4.d" / name, format=kind)
    assert f"1 images whose names do not end as those of images do (4.d/{name})" in told(
        tmp_path, caplog
    )


def test_links_that_lead_nowhere_or_twice_are_told(tmp_path, caplog):
    images = make(tmp_path, FOUR) / "made" / "images"
    (images / "4.d" / "a.png").symlink_to("nowhere")
    (images / "5.e").symlink_to("nowhere")
    (images / "circle").symlink_to("circle")
    (images / "0.again").symlink_to("1.a")
    (images / "1.a" / "up").symlink_to("..")
    said = told(tmp_path, caplog)
    assert "3 links to what is not there (4.d/a.png and 2 more)" in said
    assert "2 links to folders that are read already" in said


@pytest.mark.parametrize("name", ["4.d", "1.a/deeper"])
def test_folders_that_cannot_be_read_are_told(tmp_path, caplog, monkeypatch, name):
    images = make(tmp_path, FOUR) / "made" / "images"
    locked = images / name
    locked.mkdir(exist_ok=True)

    def scandir(path, scandir=os.scandir):
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = scan.class_folders(images)
    assert len(found) == (3 if name == "4.d" else 4)
    assert f"1 folders that cannot be read ({name})" in caplog.text


def test_names_that_are_no_text_are_told(tmp_path, caplog):
    images = make(tmp_path, FOUR) / "made" / "images"
    (images / "4.d" / os.fsdecode(b"\xff.heic")).write_bytes(b"")
    assert "4.d/\\xff.heic" in told(tmp_path, caplog)


def test_what_lies_beside_images_is_not_told(tmp_path, caplog):
    images = make(tmp_path, FOUR) / "made" / "images"
    for name in ("._0.jpg", ".DS_Store", "0.txt", "Thumbs.db", "0.jpg.part", "README"):
        (images / "1.a" / name).write_bytes(b"x")
    (images / "lost+found").mkdir()
    assert not told(tmp_path, caplog)


@pytest.mark.parametrize(
    "classes, message",
    [
        (None, "no folder"),
        ([], "0 class folders"),
        (["1.a"], "1 class folder with"),
        (["1.a", "2.b", "3.c"], "3 class folders"),
    ],
)
def test_missing_or_too_few_classes(tmp_path, classes, message):
    if classes is not None:
        (tmp_path / "made" / "images").mkdir(parents=True)
        make(tmp_path, classes)
    with pytest.raises(UserError, match=message) as error:
        datasets.select("made", str(tmp_path))
    assert str(tmp_path / "made" / "images") in str(error.value)


def test_a_dataset_that_lies_elsewhere_is_named(tmp_path):
    make(tmp_path / "up", FOUR)
    up = tmp_path / "up"
    for name, place, meant in (
        ("made", up / "made", f"is --source_path {up} meant"),
        ("made", up / "made" / "images", f"is --source_path {up} meant"),
        ("made", tmp_path, f"is --source_path {up} meant"),
        ("Mode", up, "did you mean --dataset made"),
        ("images", up / "made", f"--dataset folder --source_path {up / 'made' / 'images'}"),
        ("other", up, f"expected are images in {up}/other/images/<class folder>/."),
    ):
        with pytest.raises(UserError, match=meant):
            datasets.select(name, str(place))


@pytest.mark.parametrize("count, training, testing", [(4, 2, 2), (5, 2, 3), (10, 5, 5)])
def test_first_half_trains_second_half_tests(tmp_path, count, training, testing):
    make(tmp_path, [f"{number}.c{number}" for number in range(1, count + 1)], images=3)
    splits = datasets.select("made", str(tmp_path))
    assert splits.training.class_texts == [f"c{number}" for number in range(1, training + 1)]
    assert splits.testing.class_texts == [f"c{number}" for number in range(training + 1, count + 1)]
    assert splits.validation is None
    assert splits.training.labels.tolist() == [label for label in range(training) for _ in range(3)]
    assert splits.testing.labels.tolist() == [label for label in range(testing) for _ in range(3)]
    assert len(set(splits.training.files) | set(splits.testing.files)) == 3 * count
    for split in splits[::2]:
        for file, label in zip(split.files, split.labels):
            assert Path(file).parent.name.endswith(split.class_texts[label])


def test_the_built_in_dataset_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--source_path"):
        datasets.select("shapes", str(tmp_path / "file"))


# Samples.


def test_a_sample_is_image_label_and_index(tmp_path):
    make(tmp_path, FOUR)
    split = whole(tmp_path).with_transform(lambda image: image.size)
    assert len(split) == 8
    assert [split[index] for index in (0, 3, 7)] == [
        ((12, 10), 0, 0),
        ((12, 10), 1, 3),
        ((12, 10), 3, 7),
    ]
    assert type(split[3][1]) is int


def test_another_transform_leaves_the_first_alone(tmp_path):
    make(tmp_path, FOUR)
    split = whole(tmp_path, lambda image: "first")
    assert split.with_transform(lambda image: "second")[0][0] == "second" and split[0][0] == "first"


def test_a_broken_image_takes_the_place_of_a_sample(tmp_path):
    make(tmp_path, FOUR)
    split = whole(tmp_path, lambda image: image)
    Path(split.files[2]).write_bytes(b"no image")
    assert isinstance(split[2], BrokenImage) and split[2].path == split.files[2] and split[2].reason


def test_an_image_that_claims_to_be_enormous_is_broken(tmp_path, monkeypatch):
    make(tmp_path, FOUR)
    split = whole(tmp_path, lambda image: image)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert isinstance(split[0], BrokenImage)


# Modes: how it is stored, and the colour that is read.


def paletted() -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    return image


def translucent_palette() -> Image.Image:
    image = paletted()
    image.info["transparency"] = 1
    return image


def sixteen_bits(value: int) -> Image.Image:
    return Image.fromarray(np.full((4, 4), value, dtype=np.uint16))


IMAGES = {
    "L": (Image.new("L", (4, 4), 77), "png", (77, 77, 77)),
    "1": (Image.new("1", (4, 4), 1), "png", (255, 255, 255)),
    "RGB": (Image.new("RGB", (4, 4), (1, 2, 3)), "png", (1, 2, 3)),
    "LA opaque": (Image.new("LA", (4, 4), (90, 255)), "png", (90, 90, 90)),
    "LA transparent": (Image.new("LA", (4, 4), (90, 0)), "png", (255, 255, 255)),
    "RGBA opaque": (Image.new("RGBA", (4, 4), (1, 2, 3, 255)), "png", (1, 2, 3)),
    "RGBA transparent": (Image.new("RGBA", (4, 4), (1, 2, 3, 0)), "png", (255, 255, 255)),
    "RGBA half": (Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "webp", (127, 127, 127)),
    "P": (paletted(), "png", (10, 200, 30)),
    "P transparent": (translucent_palette(), "png", (255, 255, 255)),
    "GIF": (paletted(), "gif", (10, 200, 30)),
    "CMYK": (Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "jpg", (255, 255, 255)),
    "I;16": (sixteen_bits(200 * 256 + 17), "png", (200, 200, 200)),
    "I;16 of 12 bits": (sixteen_bits(200 * 16 + 7), "png", (200, 200, 200)),
    "I;16 of 8 bits": (sixteen_bits(200), "png", (200, 200, 200)),
    "I;16 tiff": (sixteen_bits(200 * 256 + 17), "tif", (200, 200, 200)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_mode_is_read_as_rgb(tmp_path, name):
    image, extension, expected = IMAGES[name]
    options = {"lossless": True} if extension == "webp" else {}
    if "transparency" in image.info:
        options["transparency"] = image.info["transparency"]
    image.save(tmp_path / f"a.{extension}", **options)
    found = read_rgb(str(tmp_path / f"a.{extension}"))
    assert found.mode == "RGB" and found.size == image.size
    assert np.abs(np.asarray(found).astype(int) - expected).max() <= 1


def test_sixteen_bits_with_a_transparent_grey(tmp_path):
    sixteen_bits(200 * 256 + 17).save(tmp_path / "a.png", transparency=5)
    assert read_rgb(str(tmp_path / "a.png")).getpixel((0, 0)) == (200, 200, 200)


def test_a_box_is_cut_out_before_the_transform(tmp_path):
    make(tmp_path, FOUR)
    files = whole(tmp_path).files
    split = ImageSplit(
        files,
        np.arange(8) // 2,
        list("abcd"),
        boxes=np.array([[2, 1, 7, 9]] * 8),
        transform=lambda image: image.size,
    )
    assert split[3] == ((5, 8), 1, 3)
    assert split.image(3).size == (5, 8) and whole(tmp_path).image(3).size == (12, 10)


def test_a_misspelt_column_is_an_error():
    with pytest.raises(TypeError, match="is_querry"):
        ImageSplit([], np.arange(0), [], is_querry=None)
