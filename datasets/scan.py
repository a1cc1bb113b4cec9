"""The folder scan that all datasets share."""

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from utilities.errors import named

LOG = logging.getLogger(__name__)
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
NUMBERED = re.compile(r"(\d+)\.(.+)")


def is_stray(name: str) -> bool:
    """._* and .DS_Store and __MACOSX are what macOS leaves in archives."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    return not is_stray(name) and name.lower().endswith(EXTENSIONS)


def images_in(folder: str | Path) -> list[str]:
    """Sorted paths of the images directly in a folder."""
    return sorted(
        entry.path for entry in os.scandir(folder) if is_image(entry.name) and entry.is_file()
    )


def class_folders(images: Path) -> dict[str, list[str]]:
    """Name -> images of each folder in `images` that has any, in the order of the classes."""
    folders = {
        entry.name: images_in(entry.path)
        for entry in os.scandir(images)
        if entry.is_dir() and not is_stray(entry.name)
    }
    names = ordered(name for name, files in folders.items() if files)
    return {name: folders[name] for name in names}


def image_folders(root: Path) -> dict[str, list[str]]:
    """Relative path -> images of each folder below `root`, at any depth, that has any."""
    return {
        os.path.relpath(folder, root): images
        for folder, images in tree(root).items()
        if folder != str(root)
    }


def tree(root: str | Path) -> dict[str, list[str]]:
    """Folder -> images of `root` and all folders below it that have any, sorted.

    Links are followed, but no folder is entered twice.
    """
    images_of: dict[str, list[str]] = {}
    entered = set()
    for folder, folders, _ in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not is_stray(name)]
        if (place := os.path.realpath(folder)) in entered:
            folders.clear()
            continue
        entered.add(place)
        if images := images_in(folder):
            images_of[folder] = images
    return dict(sorted(images_of.items()))


def relative_images(root: Path) -> set[str]:
    """Paths, relative to `root`, of all images below it."""
    return {
        f"{folder}/{os.path.basename(image)}"
        for folder, images in image_folders(root).items()
        for image in images
    }


def tell_missing(listed: list[str], existing: set[str], images: Path) -> None:
    """Names the listed paths that are not among the existing ones, all relative to `images`."""
    if missing := [path for path in listed if path not in existing]:
        LOG.warning(
            "%s of the %s listed images are not in %s: %s.",
            f"{len(missing):,}",
            f"{len(listed):,}",
            images,
            named(missing),
        )


def ordered(paths: Iterable[str]) -> list[str]:
    """Folders by number if all are called "12.Something", within the folders above them.

    Else by the codes of their letters, upper case first.
    """
    paths = sorted(paths)
    if not all_numbered(path.rpartition("/")[2] for path in paths):
        return paths
    return sorted(paths, key=_by_number)


def all_numbered(names: Iterable[str]) -> bool:
    return all(NUMBERED.fullmatch(name) for name in names)


def readable(name: str, numbered: bool) -> str:
    """A folder name as text: with spaces for underscores.

    Without the "12." in front, where that is a number.
    """
    text = name.partition(".")[2] if numbered else name
    return " ".join(text.replace("_", " ").split())


def _by_number(path: str) -> tuple[str, int]:
    above, _, name = path.rpartition("/")
    return above, int(name.split(".")[0])
