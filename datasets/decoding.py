"""Files -> pixels.

JPEGs, which most images are, are decoded by libjpeg-turbo alone; Pillow reads everything else.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from PIL import ExifTags, Image, ImageFile

LOG = logging.getLogger(__name__)
# What is raised for damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# 1/8, 1/4 and 1/2: the scales that libjpeg-turbo decodes faster than the whole.
REDUCTIONS = (8, 4, 2)
FOUR_CHANNELS = ("CMYK", "YCCK")
MARGIN = 16  # rows below a crop that its last rows depend on, at most

# To be raised with any change of how files become pixels: caches hold what was made of them.
PIXELS_VERSION = 4
# EXIF orientation -> what makes the image upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = (5, 6, 7, 8)  # in which height and width change places
# The same turns of a tensor [h, w, 3], transposed first for the latter four: the axes to flip.
FLIPS = {2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}
# Orders of bytes in the names that Pillow has for colours of 16 bits: big, little, the machine's.
OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
IN_TWELVE_BITS = 16  # above the upper bytes of values below 4096
OVERSHOOT = 0.1  # what resampling leaves beyond 0 and 1
DARKEST = 16  # a float image up to 255 is no darker
LISTENING = threading.RLock()


@contextmanager
def unreadable_if_damaged() -> Iterator[None]:
    """Whatever Pillow raises for a damaged file becomes one of UNREADABLE: it raises any type."""
    try:
        yield
    except (*UNREADABLE, MemoryError):
        raise
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


@contextmanager
def _libtiff_heard(image: Image.Image, name: str) -> Iterator[None]:
    """What libtiff writes to standard error of its own is a reason here, or told with a name.

    One thread at a time: of two, the later to end would leave the other's in place of the stream.
    """
    if getattr(image, "format", None) != "TIFF":
        yield
        return
    with LISTENING:
        heard = os.memfd_create("libtiff") if hasattr(os, "memfd_create") else _nowhere()
        try:
            with _standard_error_into(heard):
                yield
        except UNREADABLE as error:
            raise OSError(_said(heard) or str(error)) from error
        else:
            if said := _said(heard):
                LOG.warning("%s is read as far as it can be: %s.", name, said)
        finally:
            os.close(heard)


@contextmanager
def _standard_error_into(descriptor: int) -> Iterator[None]:
    try:
        before = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        os.dup2(descriptor, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _nowhere() -> int:
    return os.open(os.devnull, os.O_RDWR)


def _said(descriptor: int) -> str:
    """The first line, without the name that Pillow gives all files there."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    line = os.read(descriptor, 400).decode(errors="replace").partition("\n")[0]
    return line.removeprefix("tempfile.tif: ").strip().rstrip(".")


class Pixels(NamedTuple):
    """Decoded rows of an image, perhaps fewer and perhaps at reduced scale."""

    values: torch.Tensor  # uint8 [h, w, 3], the layout of decoders
    down: float = 1  # h per pixel of the image
    across: float = 1  # w per pixel of the image


class Source(NamedTuple):
    """An image whose size is known and whose pixels are not decoded yet."""

    height: int
    width: int
    # Reduction (1, 2, 4 or 8) and number of rows needed from the top -> pixels; raises UNREADABLE.
    pixels: Callable[[int, int], Pixels]


def open_image(path: str, *, fast: bool = False, oriented: bool = True) -> Source:
    """The image as RGB, of any mode; raises UNREADABLE.

    Args:
        fast: JPEGs by a quicker transform without smoothed colours, which moves values by 1 to 2 of
            255 in the mean, and at the reduced scale that is asked for; else with the values that
            Pillow gives.
        oriented: turned as its EXIF orientation says, which is how people see it; else as the
            pixels lie, which is how the paper's code reads it.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(b"\xff\xd8"):
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return _opened(read_rgb(path, oriented=oriented))
        if colours not in FOUR_CHANNELS and height * width <= Image.MAX_IMAGE_PIXELS:
            stored = Source(height, width, partial(_jpeg, path, data, height, width, fast))
            return _turned(stored, _orientation_of_jpeg(data)) if oriented else stored
    return _opened(read_rgb(path, oriented=oriented))


def read_rgb(path: str, *, oriented: bool = True) -> Image.Image:
    """An image of any mode as RGB; `oriented` as in `open_image`.

    Of an animation it is the first frame; transparency is laid on white.
    """
    with unreadable_if_damaged(), Image.open(path) as image, _libtiff_heard(image, path):
        lower = [_of_lower_bytes(tile) for tile in image.tile]
        _load(image)
        if any(lower) and max(largest for _, largest in image.getextrema()[:3]) < IN_TWELVE_BITS:
            image.paste(Image.fromarray(_eight_bits_of_colours(image, path, lower), image.mode))
        return as_rgb(image, oriented=oriented)


def size_of(path: str, *, oriented: bool) -> tuple[int, int]:
    """Width and height by the header alone; raises UNREADABLE."""
    with unreadable_if_damaged(), Image.open(path) as image:
        turned = oriented and tagged_orientation(image) in QUARTER_TURNS
        return (image.height, image.width) if turned else image.size


def as_rgb(image: Image.Image, *, oriented: bool = True) -> Image.Image:
    """What `read_rgb` makes of a file, of an image in memory."""
    _load(image)  # which turns TIFFs, so that their orientation is asked for afterwards
    turn = TURNS.get(orientation(image)) if oriented else None
    upright = image if turn is None else image.transpose(turn)
    if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
        # convert() would clip at 255
        return Image.fromarray(_eight_bits(np.asarray(upright))).convert("RGB")
    if upright.mode in ("P", "LA", "PA", "RGBA") or "transparency" in image.info:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright).convert("RGB")
    return upright.convert("RGB")


def source_of(image: Image.Image, *, oriented: bool = True) -> Source:
    """An image in memory as `open_image` gives a file; raises UNREADABLE where it loads late."""
    with unreadable_if_damaged(), _libtiff_heard(image, "An image in memory"):
        return _opened(as_rgb(image, oriented=oriented))


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1, which is upright, where it is absent or unreadable."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many types for damaged EXIF; the pixels may well be whole
        return 1
    return turn if turn in TURNS else 1


def tagged_orientation(image: Image.Image) -> int:
    """`orientation` of a file by its header, but 1 of a TIFF: Pillow gives it as it is shown."""
    return 1 if image.format == "TIFF" else orientation(image)


def orientation_tag(turn: int) -> Image.Exif:
    """What says the orientation in a file that is written."""
    exif = Image.Exif()
    if turn != 1:
        exif[ExifTags.Base.Orientation] = turn
    return exif


def resized(
    values: torch.Tensor, size: tuple[int, int], interpolation: str = "bilinear"
) -> torch.Tensor:
    """uint8 [h, w, 3] -> [*size, 3], bilinear or bicubic, with antialiasing.

    The same as Pillow's resize to within one level of 255, two of bicubic.
    """
    if values.shape[:2] == size:
        return values
    # [1, 3, h, w] in the strides that torch recognises as channels last, a quarter faster
    images = values[None].permute(0, 3, 1, 2)
    scaled = torch.nn.functional.interpolate(images, size=size, mode=interpolation, antialias=True)
    return scaled[0].permute(1, 2, 0)


def largest_reduction(height: float, width: float, size: tuple[int, int]) -> int:
    """The strongest reduction that leaves height x width pixels no smaller than `size`."""
    for factor in REDUCTIONS:
        if height >= factor * size[0] and width >= factor * size[1]:
            return factor
    return 1


def _load(image: Image.Image) -> None:
    """Decode it, but not through a map of its file.

    There Pillow takes the rows of a TIFF to be as long as they are once it is turned, and scrambles
    what they hold.
    """
    if not isinstance(image, ImageFile.ImageFile):
        image.load()
        return
    name, image.filename = image.filename, ""  # without which there is no map
    try:
        image.load()
    finally:
        image.filename = name


def _jpeg(
    path: str, data: bytes, height: int, width: int, fast: bool, reduction: int, rows: int
) -> Pixels:
    factor = reduction if fast else 1
    lines = min(height, rows + MARGIN)
    smallest = {}
    if factor > 1:
        smallest = {"min_height": -(-lines // factor), "min_width": -(-width // factor)}
    shortened = _shortened(data, height, width, lines)
    try:  # strict: a missing end is an error; that bits are left over is not
        values = simplejpeg.decode_jpeg(
            shortened, fastdct=fast, fastupsample=fast, strict=shortened is data, **smallest
        )
    except ValueError:  # damaged, and how badly that Pillow decides
        return Pixels(_values(read_rgb(path, oriented=False)))
    return Pixels(torch.from_numpy(values), 1 / factor, 1 / factor)


def _shortened(data: bytes, height: int, width: int, lines: int) -> bytes:
    """A whole baseline JPEG with another height in its header, where decoding then ends.

    Any other JPEG stays as it is. Half the time of decoding goes into reading bits, which cannot be
    skipped above a crop, only left unread below it.
    """
    if lines == height or not data.endswith(b"\xff\xd9"):
        return data
    # The size is behind a frame's marker, its length and its 8 bits.
    size = data.find(b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big"))
    if size < 4 or data[size - 4 : size - 2] not in (b"\xff\xc0", b"\xff\xc1"):
        return data
    return data[: size + 1] + lines.to_bytes(2, "big") + data[size + 3 :]


def _orientation_of_jpeg(data: bytes) -> int:
    """1 to 8, as Pillow finds it; images without it are not opened a second time."""
    if b"Exif\0\0" not in data and b"tiff:Orientation" not in data:
        return 1
    try:
        with Image.open(BytesIO(data)) as image:
            return orientation(image)
    except UNREADABLE:
        return 1


def _turned(source: Source, turn: int) -> Source:
    """An image as it is shown, decoded whole."""
    if turn == 1:
        return source
    is_quarter = turn in QUARTER_TURNS
    size = (source.width, source.height) if is_quarter else (source.height, source.width)

    def pixels(reduction: int, rows: int) -> Pixels:
        # A pixel at the end that stands for fewer would, flipped, shift all that follow it.
        while any(size[axis] % reduction for axis in FLIPS[turn]):
            reduction //= 2
        values, down, across = source.pixels(reduction, source.height)
        if is_quarter:
            values, down, across = values.transpose(0, 1), across, down
        return Pixels(values.flip(FLIPS[turn]).contiguous(), down, across)

    return Source(*size, pixels)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Values of more than 8 bits, of any shape -> uint8.

    The largest value says how many bits they have: 8, 12 or 16, of which the upper 8 remain.
    Floats from 0 to 1 are scaled by 255, those up to 255 rounded. Whatever lies elsewhere is
    stretched from its least to its largest value.
    """
    if values.dtype.kind == "f":
        return _eight_bits_of_floats(values)
    least, largest = int(values.min()), int(values.max())
    bits = next((bits for bits in (8, 12, 16) if largest < 2**bits), None)
    if least < 0 or bits is None:
        return _stretched(values.astype(np.float64))
    return (values.astype(np.uint16) >> (bits - 8)).astype(np.uint8)


def _of_lower_bytes(tile: ImageFile._Tile) -> ImageFile._Tile | None:
    """How Pillow gets the lower bytes of colours of 16 bits, of which it reads the upper ones.

    It takes one order of bytes for the other. None for a part of an image that has no such colours.
    """
    args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    mode = args[0] if args and isinstance(args[0], str) else ""
    if not mode.startswith(("RGB", "LA")) or mode[-3:] not in OTHER_ORDER:
        return None
    other = mode[:-3] + OTHER_ORDER[mode[-3:]]
    return tile._replace(args=(other, *args[1:]) if isinstance(tile.args, tuple) else other)


def _eight_bits_of_colours(
    upper: Image.Image, path: str, tiles: list[ImageFile._Tile | None]
) -> np.ndarray:
    """The upper 8 of the bits that colours of 8 or 12 bits in 16 have, [h, w, bands] -> uint8.

    Raises ValueError where Pillow cannot read their lower bytes.
    """
    with Image.open(path) as image:
        image.tile = [tile for tile in tiles if tile]
        try:
            image.load()
        except ValueError as error:
            raise ValueError("its colours of 12 bits cannot be read; save them in 8") from error
        values = np.asarray(upper).astype(np.int32) << 8 | np.asarray(image)
    colours, alpha = _eight_bits(values[..., :3]), values[..., 3:]
    return np.concatenate([colours, _eight_bits(alpha)], -1) if alpha.size else colours


def _eight_bits_of_floats(values: np.ndarray) -> np.ndarray:
    is_number = np.isfinite(values)
    if not is_number.any():
        return np.zeros(values.shape, dtype=np.uint8)
    least, largest = values[is_number].min(), values[is_number].max()
    values = np.clip(np.nan_to_num(values, nan=least), least, largest).astype(np.float64)
    if least >= -OVERSHOOT and largest <= 1 + OVERSHOOT:
        return (values.clip(0, 1) * 255).round().astype(np.uint8)
    if least >= 0 and DARKEST < largest <= 255:
        return values.round().astype(np.uint8)
    return _stretched(values)


def _stretched(values: np.ndarray) -> np.ndarray:
    """float64 [h, w] -> uint8, its least value black and its largest white."""
    least, largest = values.min(), values.max()
    if least == largest:
        return np.zeros(values.shape, dtype=np.uint8)
    return ((values - least) / (largest - least) * 255).round().astype(np.uint8)


def _opened(image: Image.Image) -> Source:
    return Source(image.height, image.width, lambda reduction, rows: Pixels(_values(image)))


def _values(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))
