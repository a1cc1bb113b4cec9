"""The folder scan that all datasets share: `<root>/images/<class folder>/<image>`."""
import os
import re
from pathlib import Path

from datasets.images import ImageClass
from utilities.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
NUMBERED = re.compile(r"(\d+)\.(.+)")


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
    training = [image_class._replace(files=image_class.files[:count]) for image_class, count in zip(classes, kept)]
    validation = [image_class._replace(files=image_class.files[count:]) for image_class, count in zip(classes, kept)]
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
