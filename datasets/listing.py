"""What a dataset holds, as columns: every image with its class and its part.

Readers make a `Listing`, splits are cut from it.
"""

import logging
import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from datasets.images import ImageSplit
from utilities import text_file
from utilities.choices import ambiguous
from utilities.errors import UserError, named
from utilities.shares import whole_part

LOG = logging.getLogger(__name__)
TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class Category(NamedTuple):
    name: str  # as the dataset writes it: a folder, a number
    text: str  # for people, and what guidance reads unless there are captions
    captions: tuple[str, ...] = ()  # what guidance reads instead
    superclass: str | None = None  # a coarser class that several share, where the dataset has them


class Listing(NamedTuple):
    """N images of C classes; `is_query`, `is_gallery` and `boxes` as in `ImageSplit`."""

    files: list[str]
    labels: np.ndarray  # [N] int64, position in `categories`
    categories: list[Category]  # C
    parts: np.ndarray  # [N] int8: TRAIN, VALIDATION or TEST
    is_query: np.ndarray | None = None  # bool [N]
    is_gallery: np.ndarray | None = None  # bool [N]
    boxes: np.ndarray | None = None  # [N, 4] int64


def first_half_trains(labels: np.ndarray, classes: int) -> np.ndarray:
    """The parts [N] of the usual protocol: the first half of the classes trains, the rest tests."""
    return np.where(labels < classes // 2, TRAIN, TEST).astype(np.int8)


def rows_of(listing: Listing, rows: np.ndarray) -> Listing:
    """The chosen images [n] of all classes."""
    return listing._replace(
        files=[listing.files[row] for row in rows],
        labels=listing.labels[rows],
        parts=listing.parts[rows],
        is_query=None if listing.is_query is None else listing.is_query[rows],
        is_gallery=None if listing.is_gallery is None else listing.is_gallery[rows],
        boxes=None if listing.boxes is None else listing.boxes[rows],
    )


def identities(files: list[str]) -> list[str]:
    """What two names of one file share: its real path, or its number where it has several."""
    folders = {folder: os.path.realpath(folder) for folder in set(map(os.path.dirname, files))}
    return [_identity(file, folders) for file in files]


def _identity(file: str, folders: dict[str, str]) -> str:
    """Few files are links, and each folder is resolved once."""
    folder, name = os.path.split(file)
    try:
        about = os.stat(file, follow_symlinks=False)
        if stat.S_ISLNK(about.st_mode) or name in ("", ".", ".."):
            file = os.path.realpath(file)
            about = os.stat(file)
        else:
            file = f"{folders[folder]}/{name}"
    except OSError:  # it is missed where it is read
        return os.path.realpath(file)
    is_linked = stat.S_ISREG(about.st_mode) and about.st_nlink > 1
    return f"{about.st_dev}:{about.st_ino}" if is_linked else file


def tell_alike(where: str, kind: str, names: Iterable[str]) -> None:
    """Tells of names that are different classes here, and perhaps one to whoever wrote them.

    They differ in case, in space or underscores, or in how Unicode or a number is written.
    """
    written: dict[object, list[str]] = {}
    for name in names:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())
        written.setdefault(Decimal(plain) if NUMBER.fullmatch(plain) else plain, []).append(name)
    if alike := [" and ".join(map(repr, some)) for some in written.values() if len(some) > 1]:
        LOG.warning(
            "%s: %s that are almost alike are different classes: %s.", where, kind, named(alike)
        )


def split(listing: Listing, part: int) -> ImageSplit | None:
    """The images of a part, its classes labelled anew from 0 in their order.

    None where it has no image.
    """
    rows = np.flatnonzero(listing.parts == part)
    if not len(rows):
        return None
    present, labels = np.unique(listing.labels[rows], return_inverse=True)
    categories = [listing.categories[label] for label in present]
    is_query, is_gallery = _protocol(listing, rows)
    return ImageSplit(
        [listing.files[row] for row in rows],
        labels,
        [category.text for category in categories],
        captions=[category.captions or (category.text,) for category in categories],
        class_names=[category.name for category in categories],
        superclasses=_superclasses(categories),
        is_query=is_query,
        is_gallery=is_gallery,
        boxes=None if listing.boxes is None else listing.boxes[rows],
    )


def counts(listing: Listing) -> dict[str, tuple[int, int]]:
    """Classes and images of each part that has any.

    The test part counts as query and gallery where it is divided.
    """
    members = {name: listing.parts == part for name, part in PARTS.items()}
    if listing.is_query is not None and listing.is_gallery is not None:
        testing = members.pop("test")
        members["query"] = testing & listing.is_query
        members["gallery"] = testing & listing.is_gallery
    return {
        name: (len(np.unique(listing.labels[rows])), int(rows.sum()))
        for name, rows in members.items()
        if rows.any()
    }


def _protocol(listing: Listing, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Queries and gallery among the rows.

    Both are None without such a protocol, and for its training part.
    """
    if listing.is_query is None or listing.is_gallery is None:
        return None, None
    is_query, is_gallery = listing.is_query[rows], listing.is_gallery[rows]
    return (is_query, is_gallery) if is_query.any() and is_gallery.any() else (None, None)


def _superclasses(categories: list[Category]) -> np.ndarray | None:
    """[C] int64, the coarser class of each; None unless all have one."""
    names = [category.superclass for category in categories if category.superclass is not None]
    return np.unique(names, return_inverse=True)[1] if len(names) == len(categories) else None


# Cutting a validation part off the training part.


def hold_out_classes(listing: Listing, share: float) -> Listing:
    """The first `share` of the training classes go on training.

    Raises UserError if a side gets fewer than two.
    """
    classes = np.unique(listing.labels[listing.parts == TRAIN])
    remaining = whole_part(len(classes), share)
    if remaining < 2 or len(classes) - remaining < 2:
        raise UserError(
            f"--tv_split_perc {share} of {len(classes)} training classes leaves {remaining} "
            f"for training and {len(classes) - remaining} for validation; both need at least 2"
            f"{_other_share(len(classes), share)}."
        )
    return _held_out(listing, np.isin(listing.labels, classes[remaining:]))


def hold_out_samples(listing: Listing, share: float) -> Listing:
    """The first `share` of the images of each class, and at least one, go on training.

    Raises UserError if too little is left.
    """
    training = np.flatnonzero(listing.parts == TRAIN)
    labels = listing.labels[training]
    sizes = np.bincount(labels)
    remaining = np.maximum(1, whole_part(sizes, share))  # [C] images of each class
    rows = training[_rank_in_class(labels, sizes) >= remaining[labels]]
    if len(np.unique(listing.labels[rows])) < 2:
        raise UserError(
            f"--tv_split_perc {share} with --tv_split_by_samples leaves no images for validation; "
            "lower it."
        )
    chosen = np.zeros(len(listing.parts), dtype=bool)
    chosen[rows] = True
    return _held_out(listing, chosen)


def _other_share(classes: int, share: float) -> str:
    """What leaves both sides enough classes where a share does not, as the end of a sentence."""
    if classes < 4:
        return " (--tv_split_by_samples splits within each class)"
    remaining = 2 if classes * share < 2 else classes - 2
    return f", as with --tv_split_perc {math.ceil(1000 * remaining / classes) / 1000}"


def hold_out_named(listing: Listing, path: str) -> Listing:
    """The training classes that a file names, one a line, are held out.

    Raises UserError for names that are none, and for too few.
    """
    wanted = _names_in(path)
    training = np.unique(listing.labels[listing.parts == TRAIN]).tolist()
    names = {label: set(listing.categories[label][:2]) for label in training}
    if unknown := sorted(wanted.difference(*names.values())):
        verb = "is no training class" if len(unknown) == 1 else "are no training classes"
        raise UserError(f"--tv_split_classes {path}: {named(unknown)} {verb}.")
    if unclear := ambiguous(wanted, [listing.categories[label][:2] for label in training]):
        raise UserError(f"--tv_split_classes {path}: {unclear}")
    labels = [label for label in training if wanted & names[label]]
    remaining = len(training) - len(labels)
    if len(labels) < 2 or remaining < 2:
        raise UserError(
            f"--tv_split_classes {path} leaves {remaining} classes for training "
            f"and {len(labels)} for validation; both need at least 2."
        )
    return _held_out(listing, np.isin(listing.labels, labels))


def _rank_in_class(labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """[N], how many images of its class come before each; `sizes` [C] are those of the classes."""
    order = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


def _names_in(path: str) -> set[str]:
    """The lines of a file that have text. Raises UserError where it cannot be read."""
    try:
        return {line.strip() for line in text_file.lines_of(path)} - {""}
    except (OSError, ValueError) as error:
        raise UserError(
            f"--tv_split_classes {path} cannot be read "
            f"({getattr(error, 'strerror', None) or error})."
        ) from error


def _held_out(listing: Listing, chosen: np.ndarray) -> Listing:
    """Chosen [N] images of the training part become the validation part."""
    parts = np.where(chosen & (listing.parts == TRAIN), VALIDATION, listing.parts)
    return listing._replace(parts=parts.astype(np.int8))
