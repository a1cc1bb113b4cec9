"""Which images a program sees: those of folders, those that are named, those in memory."""

import hashlib
import os
from collections.abc import Iterable
from functools import partial

import numpy as np
from PIL import Image

from datasets import integrity, scan
from datasets.decoding import Source, open_image, source_of
from datasets.images import ImageSplit
from utilities.errors import UserError
from utilities.fingerprint import fingerprint
from utilities.paths import absent, expanded

NO_CLASS = -1
GivenImage = str | os.PathLike | Image.Image


def below(root: str, flag: str) -> ImageSplit:
    """All images of a folder tree, sorted by path. Raises UserError where there are none.

    A class is a folder with images, named by its path below the deepest folder that holds all;
    images directly in `root` have none (NO_CLASS).
    """
    root = os.path.abspath(expanded(root))
    if not os.path.isdir(root):
        raise UserError(f"{flag} {root}: {absent(root, 'folder')}")
    files_of = scan.tree(root)
    if not files_of:
        others = len(scan.EXTENSIONS) - len(scan.USUAL)
        raise UserError(
            f"{flag} {root}: there is no image in this folder; the names of images end in "
            f"{', '.join(scan.USUAL)} or one of {others} rarer endings."
        )
    classes = [folder for folder in files_of if folder != root]
    above = os.path.commonpath([os.path.dirname(folder) for folder in classes]) if classes else root
    label_of = {folder: label for label, folder in enumerate(classes)} | {root: NO_CLASS}
    files, labels = [], []
    for folder, files_inside in files_of.items():
        files += files_inside
        labels += [label_of[folder]] * len(files_inside)
    return ImageSplit(
        files, np.array(labels), [os.path.relpath(folder, above) for folder in classes]
    )


def at(paths: list[str], flag: str) -> list[str]:
    """The images that are named, and all below those that are folders.

    Raises UserError for a missing one, and for what is no file.
    """
    files: list[str] = []
    for path in map(expanded, paths):
        if not os.path.exists(path):
            raise UserError(f"{flag} {path}: {absent(path, 'image')}")
        if not os.path.isfile(path) and not os.path.isdir(path):
            raise UserError(f"{flag} {path}: it is a pipe or a device, not an image.")
        files += below(path, flag).files if os.path.isdir(path) else [path]
    return files


def unlabelled(files: list[str]) -> ImageSplit:
    """Images of no class."""
    return ImageSplit(files, np.full(len(files), NO_CLASS), [])


def given(images: GivenImage | Iterable[GivenImage]) -> ImageSplit:
    """Files, all images of folders, and Pillow images, in their order, of no class.

    Raises UserError for a path at which there is no image.
    """
    if isinstance(images, GivenImage):
        images = [images]
    files: list[str] = []
    in_memory: dict[str, Image.Image] = {}
    for image in images:
        if isinstance(image, Image.Image):
            name = f"<image {len(files)}>"
            in_memory[name] = image
            files.append(name)
        else:
            files += at([os.fspath(image)], "images:")
    return unlabelled(files).opened_by(partial(_open, in_memory=in_memory))


def whole(split: ImageSplit, flag: str, on_bad_image: str) -> ImageSplit:
    """The images that `--on_bad_image` lets through.

    Raises UserError, naming the flag that they come from, where none is left.
    """
    return integrity.readable(split, flag) if on_bad_image == "skip" else split


def fingerprint_here(split: ImageSplit) -> dict[str, int | str]:
    """By what images are recognised as long as they lie where they are and are not written again.

    Raises UserError for an image that is gone.
    """
    digest = hashlib.sha256()
    for file in split.files:
        try:
            digest.update(f"{os.stat(file).st_mtime_ns}\n".encode())
        except OSError as error:
            raise UserError(f"The image {file} cannot be read ({error.strerror}).") from error
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in split.files])
    return {
        **fingerprint(split.files, split.labels, split.class_texts, split.boxes),
        "folder": shared,
        "times of writing": digest.hexdigest(),
    }


def _open(name: str, in_memory: dict[str, Image.Image], *, oriented: bool = True) -> Source:
    image = in_memory.get(name)
    if image is None:
        return open_image(name, oriented=oriented)
    return source_of(image, oriented=oriented)
