"""Your own: --source_path is a tree in which a folder with images is a class.

Folders train/, val/ and test/ on top are the split.
"""

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
            f"--source_path {root}: there is no such folder; "
            "with --dataset folder it is the folder that holds the class folders."
        )
    images = scan.image_folders(root)
    tops = sorted({path.split("/")[0] for path in images})
    parts = {top: TOP_FOLDERS[top.lower()] for top in tops if top.lower() in TOP_FOLDERS}
    with_classes = {parts.get(path.split("/")[0]) for path in images if "/" in path}
    if not {TRAIN, TEST} <= with_classes:
        return _listing(root, {path: images[path] for path in scan.ordered(images)})
    if surplus := [top for top in tops if top not in parts]:
        raise UserError(
            f"--source_path {root}: beside training and test folders there is {surplus[0]}, "
            "which belongs to no part; move it away."
        )
    return _divided(images, parts)


def read_classes(root: Path) -> Listing:
    """`<root>/images/<class folder>/<image>`; other images are ignored.

    Raises UserError for a missing folder and for too few classes.
    """
    images = root / "images"
    if not images.is_dir():
        raise UserError(
            f"--source_path/--dataset: there is no folder {images}; "
            f"expected are images in {images}/<class folder>/."
        )
    return _listing(images, scan.class_folders(images))


def _listing(root: Path, images: dict[str, list[str]]) -> Listing:
    """The first half of the classes trains.

    Classes are called by their last folder; the folders above are their coarser classes.
    """
    if len(images) < 4:
        raise UserError(
            f"--dataset: {root} has {len(images)} class folders with images; "
            "at least 4 are needed, "
            "because the first half of the classes trains and the second half tests."
        )
    labels = np.repeat(np.arange(len(images)), [len(files) for files in images.values()])
    return Listing(
        files=list(chain(*images.values())),
        labels=labels,
        categories=_categories(list(images)),
        parts=first_half_trains(labels, len(images)),
    )


def _divided(images: dict[str, list[str]], parts: dict[str, int]) -> Listing:
    """The top folder says the part, what is below it the class."""
    folders = [path for path in images if "/" in path]
    tops, classes = zip(*(path.split("/", 1) for path in folders))
    names = scan.ordered(set(classes))
    labels = {name: label for label, name in enumerate(names)}
    sizes = [len(images[path]) for path in folders]
    return Listing(
        files=list(chain(*(images[path] for path in folders))),
        labels=np.repeat([labels[name] for name in classes], sizes),
        categories=_categories(names),
        parts=np.repeat([parts[top] for top in tops], sizes).astype(np.int8),
    )


def _categories(names: list[str]) -> list[Category]:
    superclasses = [name.rpartition("/")[0] or None for name in names]
    folders = [name.rpartition("/")[2] for name in names]
    if len(set(superclasses)) == 1:
        superclasses = [None] * len(names)
    numbered = scan.all_numbered(folders)
    return [
        Category(name, scan.readable(folder, numbered), superclass=superclass)
        for name, folder, superclass in zip(names, folders, superclasses)
    ]
