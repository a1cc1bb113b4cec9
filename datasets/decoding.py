"""Files -> pixels.

JPEGs, which most images are, are decoded by libjpeg-turbo alone; Pillow reads everything else.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from PIL import Image

# What is raised for damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# 1/8, 1/4 and 1/2: the scales that libjpeg-turbo decodes faster than the whole.
REDUCTIONS = (8, 4, 2)
FOUR_CHANNELS = ("CMYK", "YCCK")
MARGIN = 16  # rows below a crop that its last rows depend on, at most


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


def open_image(path: str, *, fast: bool = False) -> Source:
    """The image as RGB, of any mode; raises UNREADABLE.

    EXIF orientation is not applied, as in the paper's code.

    Args:
        fast: JPEGs by a quicker transform without smoothed colours, which moves values by 1 to 2 of
            255 in the mean, and at the reduced scale that is asked for; else with the values that
            Pillow gives.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(b"\xff\xd8"):
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return _opened(read_rgb(path))
        if colours not in FOUR_CHANNELS and height * width <= Image.MAX_IMAGE_PIXELS:
            return Source(height, width, partial(_jpeg, path, data, height, width, fast))
    return _opened(read_rgb(path))


def read_rgb(path: str) -> Image.Image:
    """An image of any mode as RGB.

    Of an animation it is the first frame; transparency is laid on white.
    """
    with Image.open(path) as image:
        return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """What `read_rgb` makes of a file, of an image in memory."""
    if image.mode.startswith("I;16") or image.mode == "I":
        # convert() would clip 16 bits at 255
        upper = np.asarray(image, dtype=np.uint16) >> 8
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def source_of(image: Image.Image) -> Source:
    """An image in memory as `open_image` gives a file; raises UNREADABLE where it loads late."""
    return _opened(as_rgb(image))


def resized(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 [h, w, 3] -> [*size, 3], bilinear with antialiasing.

    The same as Pillow's resize to within one level of 255.
    """
    if values.shape[:2] == size:
        return values
    # [1, 3, h, w] in the strides that torch recognises as channels last, a quarter faster
    images = values[None].permute(0, 3, 1, 2)
    scaled = torch.nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)
    return scaled[0].permute(1, 2, 0)


def largest_reduction(height: float, width: float, size: tuple[int, int]) -> int:
    """The strongest reduction that leaves height x width pixels no smaller than `size`."""
    for factor in REDUCTIONS:
        if height >= factor * size[0] and width >= factor * size[1]:
            return factor
    return 1


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
        return Pixels(_values(read_rgb(path)))
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


def _opened(image: Image.Image) -> Source:
    return Source(image.height, image.width, lambda reduction, rows: Pixels(_values(image)))


def _values(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))
