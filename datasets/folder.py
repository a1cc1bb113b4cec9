"""Your own: --source_path is a tree in which a folder with images is a class; train/, val/ and test/ on top are the split."""

from itertools import chain
from pathlib import Path

import numpy as np

from datasets import scan
from datasets.listing import TEST, TRAIN, VALIDATION, Category, Listing, first_half_trains
from utilities.errors import UserError

TOP_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
}


def read(root: Path) -> Listing:
    """The tree below `root`. Raises UserError for a missing folder and for too few classes."""
    if not root.is_dir():
        raise UserError(
            f"--source_path {root}: there is no such folder; with --dataset folder it is the folder that holds the class folders."
        )
    found = scan.image_folders(root)
    parts = {
        top: TOP_FOLDERS.get(top.lower()) for top in sorted({path.split("/")[0] for path in found})
    }
    if not {TRAIN, TEST} <= {parts[path.split("/")[0]] for path in found if "/" in path}:
        return _listing(root, {path: found[path] for path in scan.ordered(found)})
    if surplus := [top for top, part in parts.items() if part is None]:
        raise UserError(
            f"--source_path {root}: beside training and test folders there is {surplus[0]}, which belongs to no part; move it away."
        )
    return _divided(found, parts)


def read_classes(root: Path) -> Listing:
    """`<root>/images/<class folder>/<image>`; other images are ignored. Raises UserError for a missing folder and for too few classes."""
    images = root / "images"
    if not images.is_dir():
        raise UserError(
            f"--source_path/--dataset: there is no folder {images}; expected are images in {images}/<class folder>/."
        )
    return _listing(images, scan.class_folders(images))


def _listing(root: Path, found: dict[str, list[str]]) -> Listing:
    """The first half of the classes trains. Classes are called by their last folder; the folders above are their coarser classes."""
    if len(found) < 4:
        raise UserError(
            f"--dataset: {root} has {len(found)} class folders with images; at least 4 are needed, "
            "because the first half of the classes trains and the second half tests."
        )
    labels = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
    return Listing(
        list(chain(*found.values())),
        labels,
        _categories(list(found)),
        first_half_trains(labels, len(found)),
    )


def _divided(found: dict[str, list[str]], parts: dict[str, int]) -> Listing:
    """The top folder says the part, what is below it the class."""
    tops, classes = zip(*(path.split("/", 1) for path in found if "/" in path))
    files = [found[f"{top}/{name}"] for top, name in zip(tops, classes)]
    names = scan.ordered(set(classes))
    sizes, position = [len(own) for own in files], {name: label for label, name in enumerate(names)}
    labels, of_parts = (
        np.repeat([position[name] for name in classes], sizes),
        np.repeat([parts[top] for top in tops], sizes).astype(np.int8),
    )
    return Listing(list(chain(*files)), labels, _categories(names), of_parts)


def _categories(names: list[str]) -> list[Category]:
    above, last = (
        [name.rpartition("/")[0] or None for name in names],
        [name.rpartition("/")[2] for name in names],
    )
    superclasses = above if len(set(above)) > 1 else [None] * len(names)
    numbered = scan.all_numbered(last)
    return [
        Category(name, scan.readable(folder, numbered), superclass=superclass)
        for name, folder, superclass in zip(names, last, superclasses)
    ]
