"""The built-in demo dataset: small pictures of coloured and patterned shapes, drawn on first use.

A class is a combination of attributes and is named by them, e.g. "dark red striped triangle", so
classes that read alike look alike. The first half of the classes is for training and the second
half for testing: they share no combination of attributes, but each half shows every single one.

The images are stored as `images/NNN.name_with_underscores/IIII.jpg`. Each depends on nothing but
its class and its number, so every run draws the same dataset.
"""

import itertools
import math
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from utilities.progress import progress

SEED = 85  # Its choice of classes is well balanced: every attribute is frequent in both halves.
CLASSES = 128
IMAGES_PER_CLASS = 30
IMAGE_SIZE = 80  # Side of an image, in pixels.
SUPERSAMPLING = 3  # Images are drawn this many times larger and scaled down, for smooth edges.
JPEG_QUALITY = 90


def radial(radii: list[float] | np.ndarray) -> np.ndarray:
    """Corners at equal angles around the origin, the first one on top, float [corners, 2]."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1) * np.reshape(radii, (-1, 1))


def heart() -> np.ndarray:
    """The classic heart curve, float [60, 2]."""
    t = 2 * np.pi * np.arange(60) / 60
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2.5], axis=1) / 16


def crescent() -> np.ndarray:
    """A waning moon: down half a circle and back up half an ellipse, float [80, 2]."""
    t = np.pi * (np.arange(40) / 39 - 0.5)
    limb = np.stack([0.5 - np.cos(t), np.sin(t)], axis=1)
    terminator = np.stack([0.5 - 0.2 * np.cos(t), np.sin(t)], axis=1)
    return np.concatenate([limb, terminator[::-1]])


def cross() -> np.ndarray:
    """Four arms, each a quarter turn from the one before, float [12, 2]."""
    arm = np.array([(-0.3, -0.9), (0.3, -0.9), (0.3, -0.3)])
    return np.concatenate([arm, arm[:, ::-1] * [-1, 1], -arm, arm[:, ::-1] * [1, -1]])


ARROW = [(0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.8, -0.1)]
BOLT = [(0.5, -1), (-0.7, 0.2), (-0.1, 0.2), (-0.5, 1), (0.7, -0.3), (0.1, -0.3)]

# Outlines in a frame with its origin in the middle of the shape, x to the right and y down.
SHAPES: dict[str, np.ndarray] = {
    "triangle": radial([1, 1, 1]),
    "square": np.array([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),
    "circle": radial([0.9] * 60),
    "star": radial([1, 0.42] * 5),
    "heart": heart(),
    "flower": radial(0.76 + 0.24 * np.cos(np.pi * np.arange(120) / 10)),
    "crescent": crescent(),
    "cross": cross(),
    "arrow": np.array(ARROW),
    "bolt": np.array(BOLT),
}

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "orange": (240, 135, 25),
    "yellow": (235, 215, 40),
    "green": (50, 165, 65),
    "cyan": (40, 190, 200),
    "blue": (35, 100, 220),
    "purple": (130, 55, 180),
    "pink": (240, 85, 165),
}

# How far a colour is moved towards white (positive) or black (negative).
TONES: dict[str, float] = {"light": 0.42, "": 0.0, "dark": -0.42}

# Grey levels of a pattern's marks, which have to stand out from the colour that they are drawn on.
MARK_GREYS: dict[str, list[int]] = {"light": [30], "": [30, 235], "dark": [235]}


def no_marks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.zeros(u.shape, dtype=bool)


# Where a pattern has its marks, given the phases of all pixels (radians) along its two axes.
PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": no_marks,
    "hollow": no_marks,  # Only the outline of the shape is drawn, see `draw_mask`.
    "striped": lambda u, v: np.sin(u) > 0.1,
    "dotted": lambda u, v: np.cos(u) + np.cos(v) > 0.8,
    "checkered": lambda u, v: np.sin(u) * np.sin(v) > 0,
}


class Look(NamedTuple):
    """What the images of one class have in common."""

    tone: str
    color: str
    pattern: str
    shape: str

    @property
    def name(self) -> str:
        return " ".join(word for word in self if word)


def class_looks() -> list[Look]:
    """The classes in numeric order, a fixed random choice from all combinations of attributes."""
    combinations = [Look(*words) for words in itertools.product(TONES, COLORS, PATTERNS, SHAPES)]
    return random.Random(SEED).sample(combinations, CLASSES)


def toned(color: str, tone: str) -> np.ndarray:
    """The named colour in a light, pure or dark tone, RGB from 0 to 255, float [3]."""
    strength = TONES[tone]
    target = 255 if strength > 0 else 0
    return (1 - abs(strength)) * np.array(COLORS[color]) + abs(strength) * target


def jittered(color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The RGB colour (0 to 255) as seen under a slightly different light, uint8 [3]."""
    seen = color * rng.uniform(0.82, 1.18) + rng.normal(0, 12, 3)
    return seen.clip(0, 255).astype(np.uint8)


def posed(
    outline: np.ndarray,
    center: np.ndarray,
    radius: float,
    max_angle: float,
    rng: np.random.Generator,
) -> list[tuple[float, float]]:
    """The outline at `center` with `radius` (pixels), randomly turned and stretched."""
    angle = rng.uniform(-max_angle, max_angle)
    stretch = rng.uniform(0.85, 1.15)
    cos, sin = math.cos(angle), math.sin(angle)
    points = outline * [radius * stretch, radius / stretch] @ [[cos, sin], [-sin, cos]] + center
    return [(x, y) for x, y in points.tolist()]


def draw_background(side: int, rng: np.random.Generator) -> Image.Image:
    """A muted colour gradient."""
    corners = rng.uniform(0, 255, (2, 2, 1)) + rng.normal(0, 35, (2, 2, 3))
    gradient = Image.fromarray(corners.clip(0, 255).astype(np.uint8))
    return gradient.resize((side, side), Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))


def draw_clutter(image: Image.Image, amount: int, rng: np.random.Generator) -> None:
    """Draws small shapes and lines of any colour anywhere into the image."""
    draw = ImageDraw.Draw(image)
    outlines = list(SHAPES.values())
    for _ in range(amount):
        color = tuple(rng.integers(0, 256, 3).tolist())
        start, end = rng.uniform(0, image.width, (2, 2))
        if rng.random() < 0.4:
            draw.line([*start.tolist(), *end.tolist()], fill=color, width=int(rng.integers(2, 7)))
        else:
            outline = outlines[rng.integers(len(outlines))]
            radius = image.width * rng.uniform(0.04, 0.14)
            draw.polygon(posed(outline, start, radius, math.pi, rng), fill=color)


def draw_texture(look: Look, side: int, radius: float, rng: np.random.Generator) -> Image.Image:
    """A canvas full of the colour and pattern of a class; `side` and `radius` in pixels."""
    color = jittered(toned(look.color, look.tone), rng)
    mark_color = jittered(np.full(3, rng.choice(MARK_GREYS[look.tone])), rng)
    angle = rng.uniform(0, 2 * math.pi)
    frequency = 2 * math.pi / (radius * rng.uniform(0.42, 0.6))
    place = np.arange(side, dtype=np.float32) * frequency
    x, y = place[None, :], place[:, None]
    u = x * math.cos(angle) - y * math.sin(angle)
    v = x * math.sin(angle) + y * math.cos(angle)
    has_mark = Image.fromarray(PATTERNS[look.pattern](u, v))
    texture = Image.new("RGB", (side, side), tuple(color.tolist()))
    texture.paste(tuple(mark_color.tolist()), mask=has_mark)
    return texture


def draw_mask(look: Look, side: int, radius: float, rng: np.random.Generator) -> Image.Image:
    """Where on a canvas the shape is (255) and is not (0); `side` and `radius` in pixels."""
    slack = side / 2 - radius
    center = side / 2 + rng.uniform(-0.8 * slack, 0.8 * slack, 2)
    points = posed(SHAPES[look.shape], center, radius, math.pi / 3, rng)
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    if look.pattern == "hollow":
        # The first edge is repeated to also join the last corner.
        draw.line(points + points[:2], fill=255, width=round(0.22 * radius), joint="curve")
    else:
        draw.polygon(points, fill=255)
    return mask


def draw_image(look: Look, rng: np.random.Generator) -> Image.Image:
    """One picture of a class: its shape amid clutter, a bit out of focus and noisy."""
    side = IMAGE_SIZE * SUPERSAMPLING
    radius = side * rng.uniform(0.23, 0.42)
    image = draw_background(side, rng)
    draw_clutter(image, int(rng.integers(5, 14)), rng)
    image.paste(draw_texture(look, side, radius, rng), mask=draw_mask(look, side, radius, rng))
    draw_clutter(image, int(rng.integers(0, 4)), rng)

    image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.6)))
    noise = rng.normal(0, rng.uniform(2, 15), (IMAGE_SIZE, IMAGE_SIZE, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def render(
    folder: Path, *, classes: int = CLASSES, images_per_class: int = IMAGES_PER_CLASS
) -> None:
    """Draws some images of each of the first classes into `folder/images`."""
    looks = class_looks()[:classes]
    with progress(None, "Rendering the shapes dataset", total=len(looks) * images_per_class) as bar:
        for class_index, look in enumerate(looks):
            class_name = f"{class_index + 1:03d}.{look.name.replace(' ', '_')}"
            class_folder = folder / "images" / class_name
            class_folder.mkdir(parents=True)
            for image_index in range(images_per_class):
                image = draw_image(look, np.random.default_rng([SEED, class_index, image_index]))
                image.save(class_folder / f"{image_index + 1:04d}.jpg", quality=JPEG_QUALITY)
                bar.update()


def ensure_rendered(folder: Path) -> None:
    """Draws the dataset into `folder` unless it is there already, all of it or nothing."""
    if (folder / "images").is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    # On the same disk as `folder`, so that moving the finished dataset there takes a single step.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        rendered = Path(temporary) / folder.name
        render(rendered)
        try:
            os.replace(rendered, folder)
        except OSError:
            # Another run may have been faster: its dataset is the same one.
            if not (folder / "images").is_dir():
                raise
