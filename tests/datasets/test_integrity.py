"""Broken images are named before training."""
import io

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets.integrity import require_intact
from utilities.errors import UserError


def noise(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, kind)
        return file.getvalue()


def stored(folder, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_whole_images_pass(tmp_path, kind):
    require_intact([stored(tmp_path, "a.img", noise(kind))])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_images_are_named(tmp_path, kind, share):
    content = noise(kind)
    path = stored(tmp_path, "a.img", content[:int(len(content) * share)])
    with pytest.raises(UserError, match="--dataset") as error:
        require_intact([stored(tmp_path, "b.img", content), path])
    assert path in str(error.value) and "b.img" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8", b"\x89PNG"])
def test_files_that_are_no_images_are_named(tmp_path, content):
    path = stored(tmp_path, "a.jpg", content)
    with pytest.raises(UserError) as error:
        require_intact([path])
    assert path in str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("garbage", [b"\0" * 3, b"\r\n", b"x" * 5000])
def test_trailing_garbage_passes(tmp_path, kind, garbage):
    require_intact([stored(tmp_path, "a.img", noise(kind) + garbage)])


def test_the_number_of_broken_images_is_told(tmp_path):
    paths = [stored(tmp_path, f"{number}.jpg", b"") for number in range(3)]
    with pytest.raises(UserError, match="0.jpg.* and 2 more"):
        require_intact(paths)


def test_an_image_that_claims_to_be_enormous_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = stored(tmp_path, "a.bmp", noise("BMP"))
    with pytest.raises(UserError) as error:
        require_intact([path])
    assert path in str(error.value)


def test_select_checks_the_test_images_too(tmp_path):
    for name in "abcd":
        (tmp_path / "made" / "images" / name).mkdir(parents=True)
        stored(tmp_path / "made" / "images" / name, "0.jpg", noise("JPEG"))
    path = stored(tmp_path / "made" / "images" / "d", "1.jpg", noise("JPEG")[:300])
    with pytest.raises(UserError) as error:
        datasets.select("made", str(tmp_path))
    assert path in str(error.value)
