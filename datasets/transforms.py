"""Training augmentations and the evaluation transform of the paper.

Where a crop lies is drawn first, then only that is decoded and resized.
"""

import math
from collections.abc import Callable
from functools import cache, partial
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
    interpolation: str = "bilinear"  # or bicubic

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
        scaled = resized(values[rows, columns], placement.scaled, self.interpolation)
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


class Strength(NamedTuple):
    """How much a training augmentation changes; by default as the paper's.

    Attributes:
        scale_min: smallest share of the area that a random crop shows. ratio_min: its smallest
            aspect ratio; the largest is the inverse.
        color_jitter: brightness, contrast and saturation change by up to this factor; 0: not at
            all.
        rand_augment: magnitude of 30 of two random changes (Cubuk et al., 2020); 0: none.
    """

    scale_min: float = 0.08
    ratio_min: float = 3 / 4
    color_jitter: float = 0.0
    rand_augment: int = 0


PAPER = Strength()


class Transforms(NamedTuple):
    """How the images of a run are seen."""

    training: Crops
    evaluation: Crops


def select(
    augmentation: str,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    strength: Strength = PAPER,
    interpolation: str = "bilinear",
) -> Transforms:
    """The named augmentation and the evaluation transform that goes with it.

    Args:
        image_size: pixels of a crop, but see `crop_size`. mean, std: of channels in 0..1.
        interpolation: bilinear or bicubic.
    """
    image_format = (augmentation, image_size, mean, std)
    return Transforms(
        training(*image_format, strength, interpolation), evaluation(*image_format, interpolation)
    )


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
    augmentation: str,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    strength: Strength = PAPER,
    interpolation: str = "bilinear",
) -> Crops:
    """The named augmentation.

    `base` and `big` crop and resize at random, `adv` changes colours too, `red` only crops the
    scaled image.
    """
    size = crop_size(augmentation, image_size)
    place: Callable[[int, int, np.random.Generator], Placement] = partial(
        _random_resized, strength.scale_min, strength.ratio_min, size
    )
    if augmentation == "red":
        place = partial(_random_window, short_side(image_size), size)
    colour = _colour(augmentation == "adv", strength, mean)
    return Crops(size, place, colour, True, mean, std, interpolation)


def _colour(
    is_adverse: bool, strength: Strength, mean: tuple[float, ...]
) -> Callable[[torch.Tensor, np.random.Generator], torch.Tensor] | None:
    jitter = 0.0 if is_adverse else strength.color_jitter
    if not jitter and not strength.rand_augment:
        return _jittered if is_adverse else None
    changed = partial(_changed, jitter, strength.rand_augment, mean)
    return partial(_jittered_and, changed) if is_adverse else changed


def evaluation(
    augmentation: str,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: str = "bilinear",
) -> Crops:
    """Short side to N * 256/224, centre crop."""
    size = crop_size(augmentation, image_size)
    place = partial(_centre, short_side(image_size), size)
    return Crops(size, place, None, False, mean, std, interpolation)


def _random_resized(
    scale_min: float,
    ratio_min: float,
    size: int,
    height: int,
    width: int,
    random: np.random.Generator,
) -> Placement:
    """From `scale_min` of the area to all of it, aspect ratio `ratio_min` to its inverse.

    The centre after ten misses. As torchvision's RandomResizedCrop.
    """
    ratio_max = 1 / ratio_min
    for _ in range(10):
        area = height * width * random.uniform(scale_min, 1)
        ratio = math.exp(random.uniform(math.log(ratio_min), math.log(ratio_max)))
        box_height, box_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < box_height <= height and 0 < box_width <= width:
            top = int(random.integers(height - box_height + 1))
            left = int(random.integers(width - box_width + 1))
            return Placement((top, left, box_height, box_width), (size, size), (0, 0))
    box_height, box_width = (
        min(height, round(width * ratio_max)),
        min(width, round(height * ratio_max)),
    )
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


def _jittered_and(
    changed: Callable[[torch.Tensor, np.random.Generator], torch.Tensor],
    crop: torch.Tensor,
    random: np.random.Generator,
) -> torch.Tensor:
    return changed(_jittered(crop, random), random)


def _changed(
    jitter: float,
    magnitude: int,
    mean: tuple[float, ...],
    crop: torch.Tensor,
    random: np.random.Generator,
) -> torch.Tensor:
    """[N, N, 3], changed by transforms of torchvision, which draw from torch's stream.

    That stream of the CPU is elsewhere while they do, so that they depend on `random` alone.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(int(random.integers(2**63)))
    try:
        return _changes(jitter, magnitude, mean)(crop.permute(2, 0, 1)).permute(1, 2, 0)
    finally:
        torch.set_rng_state(before)


@cache
def _changes(
    jitter: float, magnitude: int, mean: tuple[float, ...]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """What is turned or moved out of the image leaves its mean colour there."""
    # Here, because torchvision takes seconds to load.
    from torchvision.transforms import v2

    changes: list[torch.nn.Module] = []
    if magnitude:
        fill = [round(255 * channel) for channel in mean]
        bilinear = v2.InterpolationMode.BILINEAR
        changes.append(v2.RandAugment(2, magnitude, interpolation=bilinear, fill=fill))
    if jitter:
        changes.append(v2.ColorJitter(jitter, jitter, jitter))
    return v2.Compose(changes)


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
