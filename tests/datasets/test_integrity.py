"""Broken images are named before training, or left out."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.images import ImageSplit, Splits
from datasets.integrity import broken_images, checked, report
from utilities.errors import UserError


def noise(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, kind)
        return file.getvalue()


def stored(folder, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def damaged_inside() -> bytes:
    """A PNG that ends as it should, and whose pixels do not decompress."""
    content = bytearray(noise("PNG"))
    content[80:120] = b"\0" * 40
    return bytes(content)


@pytest.fixture
def splits(tmp_path) -> Splits:
    """Two classes of two images in training and in testing."""
    files = [stored(tmp_path, f"{number}.png", noise("PNG")) for number in range(8)]
    return Splits(
        ImageSplit(files[:4], np.arange(4) // 2, list("ab")),
        None,
        ImageSplit(files[4:], np.arange(4) // 2, list("cd")),
    )


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_whole_images_pass(tmp_path, kind, decode):
    assert not broken_images([stored(tmp_path, "a.img", noise(kind))], decode=decode)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_images_are_found(tmp_path, kind, share, decode):
    content = noise(kind)
    path = stored(tmp_path, "a.img", content[: int(len(content) * share)])
    found = broken_images([stored(tmp_path, "b.img", content), path], decode=decode)
    assert found.keys() == {path} and found[path]


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8", b"\x89PNG"])
def test_files_that_are_no_images_are_found(tmp_path, content, decode):
    path = stored(tmp_path, "a.jpg", content)
    missing = str(tmp_path / "nowhere.jpg")
    assert broken_images([path, missing], decode=decode).keys() == {path, missing}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("garbage", [b"\0" * 3, b"\r\n", b"x" * 5000])
def test_trailing_garbage_passes(tmp_path, kind, garbage):
    path = stored(tmp_path, "a.img", noise(kind) + garbage)
    assert not broken_images([path], decode=False) and not broken_images([path], decode=True)


def test_only_decoding_finds_damage_inside_a_file(tmp_path):
    path = stored(tmp_path, "a.png", damaged_inside())
    assert not broken_images([path], decode=False)
    assert broken_images([path], decode=True).keys() == {path}


def test_an_image_that_claims_to_be_enormous_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    paths = [stored(tmp_path, f"a.{kind}", noise(kind)) for kind in ("BMP", "JPEG")]
    assert broken_images(paths, decode=True).keys() == set(paths)


def test_the_first_broken_image_and_their_number_end_a_run(splits):
    broken = [splits.training.files[1], splits.testing.files[0], splits.testing.files[3]]
    for path in broken:
        Path(path).write_bytes(b"")
    with pytest.raises(UserError, match="1.png .* and 2 more images.*--on_bad_image skip") as error:
        checked(splits, decode=False, skip=False)
    assert "\n" not in str(error.value)


def test_broken_images_are_left_out_with_all_that_belongs_to_them(splits):
    parts = {
        "is_query": np.array([True, False, True, False]),
        "is_gallery": np.array([False, True, True, True]),
        "boxes": np.arange(16).reshape(4, 4),
    }
    splits = splits._replace(
        testing=ImageSplit(
            splits.testing.files,
            splits.testing.labels,
            ["c", "d"],
            superclasses=np.array([1, 0]),
            **parts,
        )
    )
    Path(splits.testing.files[1]).write_bytes(damaged_inside())
    found, broken = checked(splits, decode=False, skip=True)
    kept = [0, 2, 3]
    assert broken.keys() == {splits.testing.files[1]} and found.validation is None
    assert found.training.files == splits.training.files and found.training.labels.tolist() == [
        0,
        0,
        1,
        1,
    ]
    assert found.testing.files == [
        splits.testing.files[index] for index in kept
    ] and found.testing.labels.tolist() == [0, 1, 1]
    assert found.testing.class_texts == ["c", "d"] and found.testing.superclasses.tolist() == [1, 0]
    for name, values in parts.items():
        assert np.array_equal(getattr(found.testing, name), values[kept]), name


def test_a_class_that_loses_all_images_ends_a_run(splits):
    for path in splits.testing.files[2:]:
        Path(path).write_bytes(b"")
    with pytest.raises(UserError, match="'d'"):
        checked(splits, decode=False, skip=True)


def test_nothing_is_changed_where_nothing_is_broken(splits):
    assert checked(splits, decode=True, skip=True) == (splits, {})


def test_the_report_counts_and_names(caplog):
    with caplog.at_level("INFO"):
        report({})
        assert not caplog.text
        report({"x/a.png": "empty", "x/b.png": "cut"})
    assert (
        "left out: 2" in caplog.text
        and "x/a.png (empty)" in caplog.text
        and "x/b.png (cut)" in caplog.text
    )
