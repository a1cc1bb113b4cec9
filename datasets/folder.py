"""Your own: --source_path is a tree in which a folder with images is a class.

Folders train/, val/ and test/ on top are the split.
"""

import logging
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np

from datasets import scan
from datasets.listing import (
    TEST,
    TRAIN,
    VALIDATION,
    Category,
    Listing,
    first_half_trains,
    tell_alike,
)
from utilities.errors import UserError, named
from utilities.paths import absent

LOG = logging.getLogger(__name__)
QUERY, GALLERY = -1, -2  # parts that folders cannot say, because which searches which is not said
PART_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "eval": VALIDATION,
    "evaluation": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "query": QUERY,
    "queries": QUERY,
    "probe": QUERY,
    "gallery": GALLERY,
}
WORDS = re.compile(r"[^\W\d_]+")  # of train2017, seg_train, test-set


def read(root: Path) -> Listing:
    """The tree below `root`. Raises UserError for a missing folder and for too few classes."""
    if not root.is_dir():
        raise UserError(
            f"--source_path {root}: {absent(root, 'folder')} "
            "With --dataset folder it is the folder that holds the class folders."
        )
    images = scan.image_folders(root)
    parts = _parts(root, images)
    if not parts:
        by_class = {path: images[path] for path in scan.ordered(images)}
        return _listing(f"--source_path {root}", by_class)
    return _divided(root, images, parts)


def read_classes(root: Path) -> Listing:
    """`<root>/images/<class folder>/<image>`; other images are ignored.

    Raises UserError for a missing folder and for too few classes.
    """
    images = root / "images"
    if not images.is_dir():
        raise UserError(
            f"--source_path/--dataset: there is no folder {images}; "
            f"expected are images in {images}/<class folder>/, or, in folders of another form, "
            f"--dataset folder --source_path {root}."
        )
    return _listing(f"--source_path/--dataset: {images}", scan.class_folders(images))


def _listing(place: str, images: dict[str, list[str]]) -> Listing:
    """The first half of the classes trains.

    Classes are called by their last folder; the folders above are their coarser classes. `place`
    begins sentences on them.
    """
    _refuse_nameless(place, images)
    _refuse_parts_below(place, images)
    if len(images) < 4:
        amount = "1 class folder" if len(images) == 1 else f"{len(images)} class folders"
        advice = " Each class is a folder of its images in it." if len(images) < 2 else ""
        raise UserError(
            f"{place} has {amount} with images; at least 4 are needed, because the first half of "
            f"the classes trains and the second half tests.{advice}"
        )
    tell_alike(place, "folders", images)
    labels = np.repeat(np.arange(len(images)), [len(files) for files in images.values()])
    return Listing(
        files=list(chain(*images.values())),
        labels=labels,
        categories=_categories(list(images)),
        parts=first_half_trains(labels, len(images)),
    )


def _parts(root: Path, images: Iterable[str]) -> dict[str, int]:
    """The folders that are parts of the split -> which; none where all folders are classes.

    Such folders hold class folders. They lie in `root`, or together in a folder that holds all
    else. Raises UserError for parts that do not make a split.
    """
    above = _common(images)
    tops = {_top(path, above) for path in images if path != above}
    dividing = {_top(path, above) for path in images if "/" in path.removeprefix(above).strip("/")}
    part_of = {top: _part(top) for top in tops}
    if None in part_of.values() or len(set(part_of.values())) < 2:
        part_of = {top: PART_NAMES.get(_last(top).lower()) for top in tops}
    parts = {top: part for top, part in sorted(part_of.items()) if part is not None}
    present = {parts[top] for top in parts if top in dividing}
    if len(present) < 2:
        if present and len(set(parts.values())) > 1:
            flat = next(top for top in parts if top not in dividing)
            raise UserError(
                f"--source_path {root}: {flat} looks like a part of a split, but its images lie in "
                "no class folder; put them into class folders, or move it away."
            )
        if present:
            LOG.warning(
                "--source_path %s: %s is taken for a coarser class, "
                "because there is no other part of a split beside it.",
                root,
                next(top for top in parts if top in dividing),
            )
        elif dividing:  # perhaps a split of some other names
            LOG.info(
                "--source_path %s: the folders above the class folders are coarser classes (%s); "
                "a split is made by folders train/, val/ and test/.",
                root,
                named([f"{top}/" for top in sorted(dividing)]),
            )
        return {}
    _require_split(root, parts, sorted(tops - set(parts)))
    return parts


def _require_split(root: Path, parts: dict[str, int], surplus: list[str]) -> None:
    shown = named([f"{top}/" for top in parts])
    if {QUERY, GALLERY} & set(parts.values()):
        raise UserError(
            f"--source_path {root} is divided into {shown}: queries and their gallery are said by "
            "a table with the columns is_query and is_gallery (--dataset table)."
        )
    if TRAIN not in parts.values():
        raise UserError(f"--source_path {root} is divided into {shown}, but there is no train/.")
    if surplus:
        raise UserError(
            f"--source_path {root}: beside training and test folders there is {surplus[0]}, "
            "which belongs to no part; move it away."
        )


def _part(path: str) -> int | None:
    """What the words of a folder's name say that it is."""
    words = WORDS.findall(_last(path).lower())
    found = {PART_NAMES[word] for word in words if word in PART_NAMES}
    return found.pop() if len(found) == 1 else None


def _common(paths: Iterable[str]) -> str:
    """The deepest folder that is above all of the paths, "" where that is the root."""
    above: list[str] = []
    for names in zip(*(path.split("/")[:-1] for path in paths)):
        if len(set(names)) > 1:
            break
        above.append(names[0])
    return "/".join(above)


def _top(path: str, above: str) -> str:
    """The folder of a path that is directly in `above`."""
    below = path.removeprefix(above).strip("/").split("/")[0]
    return f"{above}/{below}" if above else below


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _refuse_nameless(place: str, images: Iterable[str]) -> None:
    """Raises UserError for images directly in several parts of a split, which say no class."""
    parts = [path for path in images if path.lower() in PART_NAMES]
    if len({PART_NAMES[path.lower()] for path in parts}) > 1:
        raise UserError(
            f"{place} has {len(parts)} class folders with images that are called as "
            f"parts of a split ({named(parts)}); expected are class folders in them."
        )


def _refuse_parts_below(place: str, images: Iterable[str]) -> None:
    """Raises UserError for parts of a split within classes or other folders."""
    within = {
        (depth, name.lower()) for path in images for depth, name in enumerate(path.split("/"))
    }
    for depth in {depth for depth, _ in within}:
        names = sorted(name for at, name in within if at == depth and name in PART_NAMES)
        present = {PART_NAMES[name] for name in names}
        if depth and TRAIN in present and len(present) > 1:
            raise UserError(
                f"{place}: parts of a split ({named(names)}) lie within other "
                "folders; put them on top, with class folders in them."
            )


def _divided(root: Path, images: dict[str, list[str]], parts: dict[str, int]) -> Listing:
    """The top folder says the part, what is below it the class."""
    if TEST not in parts.values():
        held_out = next(top for top in parts if parts[top] == VALIDATION)
        LOG.warning(
            "--source_path %s: there is no test part, so that %s is the test part.", root, held_out
        )
        parts = {top: TRAIN if part == TRAIN else TEST for top, part in parts.items()}
    if nameless := [path for top in parts for path in images.get(top, [])]:
        scan.tell(root, {"images in no class folder": nameless})
    top_of = {path: top for path in images for top in parts if path.startswith(f"{top}/")}
    folders = list(top_of)
    classes = [path.removeprefix(f"{top}/") for path, top in top_of.items()]
    names = scan.ordered(set(classes))
    without_names = [f"{parts[top]}/{name}" for top, name in zip(top_of.values(), classes)]
    _refuse_parts_below(f"--source_path {root}", without_names)
    tell_alike(str(root), "folders", names)
    labels = {name: label for label, name in enumerate(names)}
    sizes = [len(images[path]) for path in folders]
    return Listing(
        files=list(chain(*(images[path] for path in folders))),
        labels=np.repeat([labels[name] for name in classes], sizes),
        categories=_categories(names),
        parts=np.repeat([parts[top] for top in top_of.values()], sizes).astype(np.int8),
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
