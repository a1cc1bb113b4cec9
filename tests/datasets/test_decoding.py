"""Pixels of files of all kinds: those of Pillow, or close to them at a fraction of the time."""

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from datasets import decoding, transforms
from datasets.decoding import largest_reduction, open_image, read_rgb

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photo(width: int, height: int) -> Image.Image:
    """Smooth shapes under some grain, in colour."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    pixels = smooth + random.normal(0, 6, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(folder, image: Image.Image, name: str = "a.jpg", **options) -> str:
    image.save(folder / name, **options)
    return str(folder / name)


def decoded(
    path: str, reduction: int = 1, rows: int | None = None, fast: bool = False
) -> np.ndarray:
    source = open_image(path, fast=fast)
    pixels = source.pixels(reduction, source.height if rows is None else rows)
    return pixels.values.numpy().astype(int)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 95, "subsampling": 0},
        {"subsampling": 1},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_have_the_pixels_of_pillow(tmp_path, mode, options):
    path = saved(tmp_path, photo(123, 97).convert(mode), **options)
    assert np.array_equal(decoded(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": 0},
        {"subsampling": 1},
        {"progressive": True},
        {"restart_marker_blocks": 3},
        {"keep_rgb": True},
    ],
    ids=str,
)
def test_rows_below_those_needed_change_nothing(tmp_path, options):
    path = saved(tmp_path, photo(123, 197), quality=90, **options)
    whole = decoded(path)
    for rows in (1, 15, 16, 17, 100, 180, 181, 196, 197):
        assert np.array_equal(decoded(path, rows=rows)[:rows], whole[:rows])
    baseline = "progressive" not in options
    assert (len(decoded(path, rows=50)) < 100) == baseline  # which is where time is saved


@pytest.mark.parametrize("size", [(32, 24), (123, 197)])
def test_a_thumbnail_in_the_header_is_not_taken_for_the_image(tmp_path, size):
    """EXIF data hold a JPEG with a frame header of its own."""
    with io.BytesIO() as file:
        photo(*size).save(file, "JPEG")
        thumbnail = file.getvalue()
    header = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 0) + thumbnail
    path = saved(tmp_path, photo(123, 197), exif=header)
    assert np.array_equal(
        decoded(path, rows=40)[:40], np.asarray(Image.open(path).convert("RGB"))[:40]
    )


def test_the_bytes_of_the_size_in_a_comment_are_not_a_frame(tmp_path):
    path = saved(tmp_path, photo(123, 197), comment=b"\x08" + struct.pack(">HH", 197, 123))
    assert np.array_equal(
        decoded(path, rows=40)[:40], np.asarray(Image.open(path).convert("RGB"))[:40]
    )


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("fast", [False, True])
def test_reduced_scale_and_its_difference(tmp_path, reduction, fast):
    """Beside the means of squares of the image decoded whole: 2 of 255 in the mean."""
    path = saved(tmp_path, photo(641, 483), quality=90)
    found = decoded(path, reduction, fast=fast)
    factor = reduction if fast else 1
    assert found.shape == (-(-483 // factor), -(-641 // factor), 3)
    expected = np.asarray(Image.open(path).reduce(factor)).astype(int)
    difference = np.abs(found - expected)
    assert difference.mean() <= (2 if fast else 0) and (difference.mean() > 0) == fast


@pytest.mark.parametrize(
    "height, width, size, expected",
    [
        (375, 500, (224, 224), 1),
        (448, 448, (224, 224), 2),
        (447, 900, (224, 224), 1),
        (900, 1000, (224, 224), 4),
        (4000, 3000, (224, 224), 8),
        (512, 700, (256, 350), 2),
    ],
)
def test_reductions_leave_no_fewer_pixels_than_the_crop(height, width, size, expected):
    assert largest_reduction(height, width, size) == expected


@pytest.mark.parametrize("build", [transforms.training, transforms.evaluation])
def test_crops_from_reduced_images_are_those_of_the_whole(tmp_path, build):
    """A shift of half a pixel of the reduced image is all that rounding the crop can do."""
    path = saved(tmp_path, photo(1300, 1100), quality=90)
    crops, used = build("base", 96, MEAN, STD), set()
    for seed in range(10):
        exact, fast = (
            crops.crop(open_image(path, fast=fast), np.random.default_rng(seed)).int()
            for fast in (False, True)
        )
        assert (exact - fast).abs().float().mean() < 4
        _, _, height, width = crops.place(1100, 1300, np.random.default_rng(seed)).box
        used.add(largest_reduction(height, width, (96, 96)))
    assert used & {2, 4, 8}


def tagged(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_orientation_is_applied(tmp_path, name, orientation):
    """A photo is turned as viewers show it, or lies as its sensor saw it (the paper's code)."""
    options = {"compression": "raw"} if name == "a.tif" else {}
    path = saved(tmp_path, photo(60, 40), name, exif=tagged(orientation), **options)
    shown = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    assert np.array_equal(decoded(path), np.asarray(shown))
    assert np.array_equal(np.asarray(read_rgb(path)), np.asarray(shown))
    assert decoding.size_of(path, oriented=True) == shown.size
    source = open_image(path, oriented=False)
    stored = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(source.pixels(1, source.height).values.numpy(), stored)
    assert (source.width, source.height) == decoding.size_of(path, oriented=False)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
def test_a_tiff_of_any_mode_is_turned_whole(tmp_path, mode, compression, orientation):
    """Pillow maps some of them into memory, with rows as long as they are once they are turned."""
    image = photo(60, 40).convert("I" if mode == "I;16" else mode).convert(mode)
    upright = saved(tmp_path, image, "upright.tif", compression=compression)
    path = saved(tmp_path, image, "a.tif", compression=compression, exif=tagged(orientation))
    turn = decoding.TURNS.get(orientation)
    shown = read_rgb(upright) if turn is None else read_rgb(upright).transpose(turn)
    assert decoding.size_of(path, oriented=True) == shown.size
    assert np.array_equal(decoded(path), np.asarray(shown))
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(decoding.as_rgb(opened)), np.asarray(shown))
        assert opened.filename == path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("width, height", [(640, 480), (641, 483), (640, 487), (647, 480)])
def test_reduced_photos_are_turned_without_a_shift(tmp_path, width, height, orientation):
    """Also where the reduced pixels at the end stand for fewer of the file."""
    upright = photo(width, height)
    stored = upright if orientation == 1 else upright.transpose(INVERSES[orientation])
    path = saved(tmp_path, stored, quality=95, subsampling=0, exif=tagged(orientation))
    crops = transforms.evaluation("base", 48, MEAN, STD)
    exact, fast = (
        crops.crop(open_image(path, fast=fast), np.random.default_rng(3)).int()
        for fast in (False, True)
    )
    assert (exact - fast).abs().float().mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("build", [transforms.training, transforms.evaluation])
def test_crops_of_turned_photos_are_those_of_upright_ones(tmp_path, build, orientation, fast):
    upright = photo(640, 480)
    stored = upright if orientation == 1 else upright.transpose(INVERSES[orientation])
    path = saved(tmp_path, stored, quality=95, subsampling=0, exif=tagged(orientation))
    expected = saved(tmp_path, upright, "b.jpg", quality=95, subsampling=0)
    crops = build("base", 96, MEAN, STD)
    found, wanted = (
        crops.crop(open_image(file, fast=fast), np.random.default_rng(3)).int()
        for file in (path, expected)
    )
    assert (found - wanted).abs().float().mean() < 4


INVERSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0junk"])
def test_damaged_exif_leaves_the_photo_as_it_lies(tmp_path, exif):
    path = saved(tmp_path, photo(60, 40), exif=exif)
    assert np.array_equal(decoded(path), np.asarray(Image.open(path)))


RAMP = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)


@pytest.mark.parametrize(
    "values",
    [
        RAMP,
        RAMP * 255,
        RAMP * 1e6 - 5e5,
        (RAMP * 255).round().astype(np.int32),
        (RAMP * 255).round().astype(np.int32) * 257,
        (RAMP * 255).round().astype(np.int32) * 2**22,
        (RAMP * 255).round().astype(np.int32) - 128,
        (RAMP * 4095).round().astype(np.uint16),
        (RAMP * 65535).round().astype(np.uint16),
    ],
    ids=["0..1", "0..255", "wide", "int 8", "int 16", "int 32", "signed", "12 bits", "16 bits"],
)
def test_grey_values_of_many_kinds(tmp_path, values):
    found = decoded(saved(tmp_path, Image.fromarray(values), "a.tif"))[..., 0].ravel()
    assert np.abs(found - np.arange(256)).max() <= 1


COLOUR_TYPES = {"RGB": 2, "LA": 4, "RGBA": 6}  # of PNG


def png_of_16_bits(path, values: np.ndarray, kind: str) -> str:
    """Written by hand, because Pillow writes colours of 8 bits only."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[kind], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return str(path)


def ramp_of_colours(largest: int) -> np.ndarray:
    """[16, 16, 3], red rises, green falls, blue is half of red."""
    red = (RAMP * largest).round().astype(np.uint16)
    return np.stack([red, red[::-1, ::-1], red // 2], axis=-1)


@pytest.mark.parametrize("largest", [255, 4095, 65535])
@pytest.mark.parametrize("kind", ["RGB", "RGBA"])
def test_colours_of_8_12_and_16_bits_in_16(tmp_path, largest, kind):
    colours = ramp_of_colours(largest)
    opaque = np.full((16, 16, 1), largest, dtype=np.uint16)
    values = np.concatenate([colours, opaque], -1) if kind == "RGBA" else colours
    found = decoded(png_of_16_bits(tmp_path / "a.png", values, kind))
    assert np.abs(found - colours * (255 / largest)).max() <= 1


def test_grey_of_12_bits_with_transparency_is_refused(tmp_path):
    values = ramp_of_colours(4095)[..., :2]
    with pytest.raises(ValueError, match="12 bits cannot be read"):
        decoded(png_of_16_bits(tmp_path / "a.png", values, "LA"))


def test_values_that_are_no_numbers(tmp_path):
    values = RAMP.copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    found = decoded(saved(tmp_path, Image.fromarray(values), "a.tif"))[..., 0]
    assert found[0, :3].tolist() == [3, 255, 3]
    empty = np.full((4, 4), np.nan, dtype=np.float32)
    assert not decoded(saved(tmp_path, Image.fromarray(empty), "b.tif")).any()


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name == "a.webp" else {}
        path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], **options)
        assert Image.open(path).n_frames == 3
        assert (decoded(path) == (255, 0, 0)).all(), name


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "webp", "tif", "ppm"])
def test_other_formats_are_those_of_pillow(tmp_path, kind):
    path = saved(tmp_path, photo(50, 40), f"a.{kind}")
    assert np.array_equal(decoded(path, reduction=2, rows=3, fast=True), np.asarray(read_rgb(path)))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_cannot_be_read(tmp_path, name, share):
    path = tmp_path / name
    saved(tmp_path, photo(200, 150), name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    for rows in (None, 2):
        with pytest.raises(decoding.UNREADABLE):
            decoded(str(path), rows=rows, fast=True)


def test_a_jpeg_that_claims_to_be_enormous_cannot_be_read(tmp_path, monkeypatch):
    path = saved(tmp_path, photo(50, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(decoding.UNREADABLE):
        decoded(path)


def test_whatever_pillow_raises_is_an_unreadable_image(tmp_path):
    """Of this DDS file of no known pixels it is NotImplementedError."""
    header = struct.pack("<IIII", 124, 0x1007, 40, 40) + bytes(56) + struct.pack("<II", 32, 0)
    path = tmp_path / "odd.png"
    path.write_bytes(b"DDS " + header + bytes(44))
    with pytest.raises(NotImplementedError):
        Image.open(path)
    for read in (read_rgb, open_image):
        with pytest.raises(decoding.UNREADABLE):
            read(str(path))
    with pytest.raises(decoding.UNREADABLE):
        decoding.size_of(str(path), oriented=True)


def damaged_tiff(folder, compression: str, mode: str = "RGB") -> str:
    path = saved(folder, photo(64, 64).convert(mode), "a.tif", compression=compression)
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 3 : len(data) // 2] = b"\x5a" * (len(data) // 2 - len(data) // 3)
    Path(path).write_bytes(data)
    return path


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_what_libtiff_says_of_a_broken_image_is_the_reason(tmp_path, capfd, compression):
    path = damaged_tiff(tmp_path, compression)
    with pytest.raises(decoding.UNREADABLE) as broken:
        read_rgb(path)
    assert str(broken.value) and "decoder error" not in str(broken.value)
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_what_libtiff_reads_all_the_same_is_told_with_its_name(tmp_path, capfd, caplog):
    path = damaged_tiff(tmp_path, "group4", "1")
    read_rgb(path)
    assert f"{path} is read as far as it can be: Fax4Decode" in caplog.text
    assert "Fax4Decode" not in capfd.readouterr().err.replace(caplog.text, "")


def test_threads_that_read_tiffs_leave_standard_error_where_it_was(tmp_path):
    """Else all that is said after them goes nowhere, the sentence that ends a run too."""
    Image.new("RGB", (300, 300)).save(tmp_path / "a.tif", compression="tiff_lzw")
    before = os.fstat(2)
    with ThreadPoolExecutor(8) as pool:
        sizes = set(pool.map(lambda _: read_rgb(str(tmp_path / "a.tif")).size, range(200)))
    after = os.fstat(2)
    assert sizes == {(300, 300)}
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
