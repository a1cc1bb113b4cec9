"""The folder scan that all datasets share: `<root>/images/<class folder>/<image>`."""
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from utilities.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
# What Pillow raises for damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
NUMBERED = re.compile(r"(\d+)\.(.+)")


class ImageClass(NamedTuple):
    text: str          # what guidance reads: "Black footed Albatross" of the folder "001.Black_footed_Albatross"
    files: list[str]   # sorted


class BrokenImage(NamedTuple):
    """Takes the place of a batch in which an image could not be read (an exception in a worker would bring a traceback)."""
    path: str
    reason: str


class ImageSplit(torch.utils.data.Dataset):
    """Images of some classes; labels are 0..C-1 in the order of the classes.

    Attributes:
        files: N paths. labels: [N] int64. class_texts: C texts.
    """

    def __init__(self, classes: list[ImageClass], transform: Callable | None = None):
        self.files = [file for image_class in classes for file in image_class.files]
        self.labels = np.repeat(np.arange(len(classes)), [len(image_class.files) for image_class in classes])
        self.class_texts = [image_class.text for image_class in classes]
        self.transform = transform

    def with_transform(self, transform: Callable) -> "ImageSplit":
        """The same images seen through another transform."""
        view = object.__new__(ImageSplit)
        view.__dict__.update(self.__dict__, transform=transform)
        return view

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int] | BrokenImage:
        try:
            image = read_rgb(self.files[index])
        except UNREADABLE as error:
            return BrokenImage(self.files[index], str(error))
        return self.transform(image), int(self.labels[index]), index


def read_rgb(path: str) -> Image.Image:
    """An image of any mode as RGB; transparency is laid on white."""
    with Image.open(path) as image:
        if image.mode.startswith("I;16") or image.mode == "I":  # convert() would clip 16 bits at 255
            return Image.fromarray((np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8)).convert("RGB")
        if image.mode in ("P", "LA", "PA", "RGBA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("RGB")
        return image.convert("RGB")


def scan(root: Path) -> list[ImageClass]:
    """Classes with at least one image, ordered by their number where all folders have one ("12.Name"), else by name.

    Raises UserError for a missing folder and for fewer than four classes: two must train and two must test.
    """
    images = root / "images"
    if not images.is_dir():
        raise UserError(f"--source_path/--dataset: there is no folder {images}; expected are images in {images}/<class folder>/.")
    folders = [entry for entry in os.scandir(images) if entry.is_dir() and not entry.name.startswith(".")]
    found = [(entry.name, _image_files(entry.path)) for entry in folders]
    found = [(name, files) for name, files in found if files]
    if len(found) < 4:
        raise UserError(f"--dataset: {images} has {len(found)} class folders with images; at least 4 are needed, "
                        "because the first half of the classes trains and the second half tests.")
    numbered = all(NUMBERED.fullmatch(name) for name, _ in found)
    found.sort(key=lambda item: (int(item[0].split(".")[0]), item[0]) if numbered else item[0])
    return [ImageClass(_text(name, numbered), files) for name, files in found]


def cut_classes(classes: list[ImageClass], share: float) -> tuple[list[ImageClass], list[ImageClass]]:
    """The first `share` of the classes, and the others; raises UserError if a side gets fewer than two."""
    kept = int(len(classes) * share)
    if kept < 2 or len(classes) - kept < 2:
        raise UserError(f"--tv_split_perc {share} of {len(classes)} training classes leaves {kept} for training and "
                        f"{len(classes) - kept} for validation; both need at least 2.")
    return classes[:kept], classes[kept:]


def cut_samples(classes: list[ImageClass], share: float) -> tuple[list[ImageClass], list[ImageClass]]:
    """The first `share` of the images of each class, and the others; a class keeps at least one image in training."""
    kept = [max(1, int(len(image_class.files) * share)) for image_class in classes]
    training = [ImageClass(image_class.text, image_class.files[:count]) for image_class, count in zip(classes, kept)]
    validation = [ImageClass(image_class.text, image_class.files[count:]) for image_class, count in zip(classes, kept)]
    validation = [image_class for image_class in validation if image_class.files]
    if len(validation) < 2:
        raise UserError(f"--tv_split_perc {share} with --tv_split_by_samples leaves no images for validation; lower it.")
    return training, validation


def _image_files(path: str) -> list[str]:
    # ._* and .DS_Store are what macOS leaves in archives.
    return sorted(entry.path for entry in os.scandir(path)
                  if not entry.name.startswith(".") and entry.name.lower().endswith(EXTENSIONS) and entry.is_file())


def _text(folder_name: str, numbered: bool) -> str:
    name = NUMBERED.fullmatch(folder_name)[2] if numbered else folder_name
    return name.replace("_", " ").strip()
