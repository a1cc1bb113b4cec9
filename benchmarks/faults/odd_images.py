"""Files that are no usual photos: damaged, of rare modes and sizes, bombs, and no pictures."""

import pickle
import struct
import zlib
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image

from benchmarks.faults import samples as valid
from benchmarks.faults.mutations import damaged

FORMATS = ("JPEG", "JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "AVIF", "DDS", "TGA")
BOMB = 60_000  # side of an image whose header alone is there


def odd_image(random: Random) -> tuple[str, bytes]:
    if random.random() < 0.5:
        kind = random.choice(FORMATS)
        picture = valid.noise(np.random.default_rng(random.randrange(100)))
        accident, content = damaged(random, valid.image_bytes(picture, kind))
        return f"{kind}, {accident}", content
    name = random.choice(list(ODD_IMAGES))
    return name, ODD_IMAGES[name](random)


def _of_mode(random: Random) -> bytes:
    """Of a mode that is not RGB, in a format that takes it."""
    pairs = {
        "PNG": ("1", "L", "LA", "P", "RGBA", "I;16"),
        "TIFF": ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16"),
        "JPEG": ("L", "CMYK", "YCbCr"),
        "GIF": ("1", "L", "P"),
        "WEBP": ("RGBA",),
        "PPM": ("1", "L", "I"),
        "JPEG2000": ("L", "LA", "RGBA", "I;16"),
        "TGA": ("L", "LA", "P", "RGBA"),
    }
    kind = random.choice(list(pairs))
    picture = valid.noise(np.random.default_rng(1))
    mode = random.choice(pairs[kind])
    picture = (
        picture.convert("L").convert(mode) if mode.startswith("I") else _converted(picture, mode)
    )
    return valid.image_bytes(picture, kind)


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.merge("LAB", picture.split())
    return picture.convert("L").convert("F") if mode == "F" else picture.convert(mode)


def _of_size(random: Random) -> bytes:
    width, height = random.choice(((1, 1), (1, 3000), (3000, 1), (2, 1), (16_000, 3)))
    picture = valid.noise(np.random.default_rng(2), width, height)
    return valid.image_bytes(picture, random.choice(("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")))


def _png(
    width: int, height: int, *chunks: tuple[bytes, bytes], depth: bytes = b"\x08\x02"
) -> bytes:
    header = struct.pack(">II", width, height) + depth + b"\0\0\0"
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    whole = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        whole += struct.pack(">I", len(data)) + name + data + checksum
    return whole


def _bomb(random: Random) -> bytes:
    """A header that promises far more pixels than there are."""
    sides = struct.pack("<HH", 65_535, 65_535)
    jpeg = valid.image_bytes(valid.noise(np.random.default_rng(3)), "JPEG")
    at = jpeg.find(b"\xff\xc0") + 5
    tiff = valid.image_bytes(valid.noise(np.random.default_rng(3)), "TIFF")
    return random.choice(
        (
            _png(BOMB, BOMB),
            _png(2**31 - 1, 2**31 - 1),
            _png(12_000, 12_000),
            _png(0, 0),
            b"GIF89a" + sides + b"\xf7\0\0" + bytes(768) + b",\0\0\0\0" + sides + b"\0\x08\0",
            jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :],
            tiff.replace(struct.pack("<HHI", 256, 4, 1) + b"\x39", b"\0\1\4\0\1\0\0\0\xff"),
            b"P6 60000 60000 255\n" + bytes(100),
            b"BM" + struct.pack("<IIIIii", 100, 0, 54, 40, BOMB, BOMB) + bytes(100),
        )
    )


def _texts_within(random: Random) -> bytes:
    """A PNG whose compressed text is larger than anybody reads."""
    text = b"Comment\0\0" + zlib.compress(bytes(80 * 2**20), 9)
    return _png(20, 20, (b"zTXt", text))


def _exif(random: Random) -> bytes:
    """A JPEG with damaged EXIF."""
    exif = Image.Exif()
    exif[0x0112] = random.choice((0, 3, 6, 9, 65_535))
    exif[0x010E] = "é" * 200
    whole = valid.image_bytes(valid.noise(np.random.default_rng(4)), "JPEG", exif=exif)
    at = whole.find(b"Exif\0\0") + 6
    _, damage = damaged(random, whole[at : at + 60])
    return whole[:at] + damage[:60].ljust(60, b"\0") + whole[at + 60 :]


def _animated(random: Random) -> bytes:
    frames = [valid.noise(np.random.default_rng(number)) for number in range(3)]
    kind = random.choice(("GIF", "PNG", "WEBP", "TIFF"))
    whole = valid.image_bytes(frames[0], kind, save_all=True, append_images=frames[1:])
    return whole if random.random() < 0.5 else damaged(random, whole)[1]


def _circular_tiff(random: Random) -> bytes:
    """Directories of a TIFF that lead to each other."""
    whole = valid.image_bytes(valid.noise(np.random.default_rng(5)), "TIFF")
    (start,) = struct.unpack("<I", whole[4:8])
    (entries,) = struct.unpack("<H", whole[start : start + 2])
    end = start + 2 + 12 * entries
    return whole[:end] + struct.pack("<I", start) + whole[end + 4 :]


def _foreign(random: Random) -> bytes:
    return random.choice(
        (
            b"<html><body>404 Not Found</body></html>",
            b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n",
            b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n",
            pickle.dumps({"a": 1}),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            b"#define im_width 99999\n#define im_height 99999\nstatic char im_bits[] = { 0x00 };",
            b'/* XPM */\nstatic char *a[] = {"9 9 1 1","a c #000000"};',
            b"8BPS\0\1" + bytes(6) + b"\0\3" + struct.pack(">II", 30_000, 30_000) + b"\0\x08\0\3",
            b"qoif" + struct.pack(">II", BOMB, BOMB) + b"\3\0" + bytes(20),
            b"DDS " + struct.pack("<IIII", 124, 0x1007, BOMB, BOMB) + bytes(200),
            b"\x0a\x05\x01\x08" + struct.pack("<HHHH", 0, 0, 65_534, 65_534) + bytes(200),
            b"icns" + struct.pack(">I", 2**31) + b"ic10" + struct.pack(">I", 2**31),
            b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0" + struct.pack("<II", 2**30, 22),
            b"\x01\xda\0\1\0\3" + struct.pack(">HHH", 65_535, 65_535, 3) + bytes(500),
        )
    )


ODD_IMAGES: dict[str, Callable[[Random], bytes]] = {
    "another mode": _of_mode,
    "another size": _of_size,
    "a bomb": _bomb,
    "a large text within": _texts_within,
    "damaged EXIF": _exif,
    "an animation": _animated,
    "a TIFF that goes in circles": _circular_tiff,
    "no photo": _foreign,
}
