"""Training augmentations and the evaluation transform of the paper.

Where a crop lies is drawn first, then only that is decoded and resized.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from datasets.decoding import Source, largest_reduction, resized

Box = tuple[int, int, int, int]


class Placement(NamedTuple):
    """Where a crop lies in an image.

    `box` is resized to `scaled`, of which the N x N window at `corner` is kept.
    """

    box: Box  # top, left, height, width in pixels of the image
    scaled: tuple[int, int]  # height, width; at least N each
    corner: tuple[int, int]  # top, left


class Crops(NamedTuple):
    """How images become uint8 crops [N, N, 3].

    Flips and normalisation follow on the device, see `PixelBatch`.
    """

    size: int  # N
    place: Callable[[int, int, np.random.Generator], Placement]  # height and width of the image
    colour: Callable[[torch.Tensor, np.random.Generator], torch.Tensor] | None
    flips: bool  # mirror half of them
    mean: tuple[float, ...]  # of channels in 0..1
    std: tuple[float, ...]

    def crop(
        self, source: Source, random: np.random.Generator, box: Box | None = None
    ) -> torch.Tensor:
        """uint8 [N, N, 3], a crop of an image, or of the part of it in `box`.

        `box` is left, top, right, bottom in pixels.
        """
        seen = box or (0, 0, source.width, source.height)
        top, left, height, width = _inside(seen, source.height, source.width)
        placement = self.place(height, width, random)
        top, left = top + placement.box[0], left + placement.box[1]
        height, width = placement.box[2:]
        reduction = largest_reduction(height, width, placement.scaled)
        values, down, across = source.pixels(reduction, top + height)
        rows, columns = _span(top * down, height * down), _span(left * across, width * across)
        scaled = resized(values[rows, columns], placement.scaled)
        row, column = placement.corner
        crop = scaled[row : row + self.size, column : column + self.size]
        return self.colour(crop, random) if self.colour else crop

    def pass_over(
        self, height: int, width: int, random: np.random.Generator, box: Box | None = None
    ) -> None:
        """Draw what `crop` draws for an image of that size, which another process reads."""
        _, _, height, width = _inside(box or (0, 0, width, height), height, width)
        self.place(height, width, random)
        if self.colour:
            self.colour(torch.zeros(1, 1, 3, dtype=torch.uint8), random)


class Transforms(NamedTuple):
    """How the images of a run are seen."""

    training: Crops
    evaluation: Crops


def select(
    augmentation: str, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Transforms:
    """The named augmentation and the evaluation transform that goes with it.

    Args:
        image_size: pixels of a crop, but see `crop_size`. mean, std: of channels in 0..1.
    """
    image_format = (augmentation, image_size, mean, std)
    return Transforms(training(*image_format), evaluation(*image_format))


def short_side(image_size: int) -> int:
    """The short side before the crop: 256 for crops of 224, in proportion for others."""
    return round(image_size * 256 / 224)


def crop_size(augmentation: str, image_size: int) -> int:
    """`big` crops nothing away from the resized image."""
    return short_side(image_size) if augmentation == "big" else image_size


def scaled_to(short: int, height: int, width: int) -> tuple[int, int]:
    """Height and width with the given short side, the long one rounded down."""
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def training(
    augmentation: str, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Crops:
    """The named augmentation.

    `base` and `big` crop and resize at random, `adv` changes colours too, `red` only crops the
    scaled image.
    """
    size = crop_size(augmentation, image_size)
    place: Callable[[int, int, np.random.Generator], Placement] = partial(_random_resized, size)
    if augmentation == "red":
        place = partial(_random_window, short_side(image_size), size)
    return Crops(size, place, _jittered if augmentation == "adv" else None, True, mean, std)


def evaluation(
    augmentation: str, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Crops:
    """Short side to N * 256/224, centre crop."""
    size = crop_size(augmentation, image_size)
    return Crops(size, partial(_centre, short_side(image_size), size), None, False, mean, std)


def _random_resized(size: int, height: int, width: int, random: np.random.Generator) -> Placement:
    """8 to 100 percent of the area, aspect ratio 3/4 to 4/3 (torchvision's RandomResizedCrop).

    The centre after ten misses.
    """
    for _ in range(10):
        area = height * width * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        box_height, box_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < box_height <= height and 0 < box_width <= width:
            top = int(random.integers(height - box_height + 1))
            left = int(random.integers(width - box_width + 1))
            return Placement((top, left, box_height, box_width), (size, size), (0, 0))
    box_height, box_width = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return Placement((top, left, box_height, box_width), (size, size), (0, 0))


def _random_window(
    short: int, size: int, height: int, width: int, random: np.random.Generator
) -> Placement:
    scaled_height, scaled_width = scaled_to(short, height, width)
    top = int(random.integers(scaled_height - size + 1))
    left = int(random.integers(scaled_width - size + 1))
    return Placement((0, 0, height, width), (scaled_height, scaled_width), (top, left))


def _centre(
    short: int, size: int, height: int, width: int, random: np.random.Generator
) -> Placement:
    scaled_height, scaled_width = scaled_to(short, height, width)
    corner = round((scaled_height - size) / 2), round((scaled_width - size) / 2)
    return Placement((0, 0, height, width), (scaled_height, scaled_width), corner)


def _jittered(crop: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """[N, N, 3]; grey in a fifth of the cases, then other colours.

    Brightness, contrast, saturation and hue change by up to a fifth, in random order.
    """
    # Here, because torchvision takes seconds to load.
    from torchvision.transforms.v2 import functional

    pixels = crop.permute(2, 0, 1)
    if random.random() < 0.2:
        pixels = functional.rgb_to_grayscale(pixels, num_output_channels=3)
    changes = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    for number in random.permutation(len(changes)):
        middle = 0 if changes[number] is functional.adjust_hue else 1
        pixels = changes[number](pixels, middle + random.uniform(-0.2, 0.2))
    return pixels.permute(1, 2, 0)


def _span(start: float, length: float) -> slice:
    """Whole pixels, at least one."""
    first, last = round(start), round(start + length)
    return slice(first, max(last, first + 1))


def _inside(box: Box, height: int, width: int) -> Box:
    """Left, top, right, bottom -> top, left, height and width of what lies in the image.

    It is at least a pixel.
    """
    left, top = min(max(box[0], 0), width - 1), min(max(box[1], 0), height - 1)
    return top, left, max(min(box[3], height) - top, 1), max(min(box[2], width) - left, 1)
