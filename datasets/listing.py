"""What a dataset holds, as columns: every image with its class and its part. Readers make a `Listing`, splits are cut from it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.images import ImageSplit
from utilities.errors import UserError, named

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


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
    """The parts [N] of the usual protocol: the first half of the classes trains, the second half tests."""
    return np.where(labels < classes // 2, TRAIN, TEST).astype(np.int8)


def split(listing: Listing, part: int) -> ImageSplit | None:
    """The images of a part, its classes labelled anew from 0 in their order; None where it has no image."""
    rows = np.flatnonzero(listing.parts == part)
    if not len(rows):
        return None
    present, labels = np.unique(listing.labels[rows], return_inverse=True)
    categories = [listing.categories[label] for label in present]
    superclasses = [category.superclass for category in categories]
    columns = {
        name: None if values is None else values[rows]
        for name in ("is_query", "is_gallery", "boxes")
        for values in [getattr(listing, name)]
    }
    if (
        columns["is_query"] is not None and not columns["is_query"].any()
    ):  # the training part of a query/gallery protocol
        columns["is_query"] = columns["is_gallery"] = None
    return ImageSplit(
        [listing.files[row] for row in rows],
        labels,
        [category.text for category in categories],
        captions=[category.captions or (category.text,) for category in categories],
        superclasses=None
        if None in superclasses
        else np.unique(superclasses, return_inverse=True)[1],
        **columns,
    )


def counts(listing: Listing) -> dict[str, tuple[int, int]]:
    """Classes and images of each part that has any; the test part as query and gallery where it is divided."""
    chosen = {name: listing.parts == part for name, part in PARTS.items()}
    if listing.is_query is not None:
        testing = chosen.pop("test")
        chosen |= {"query": testing & listing.is_query, "gallery": testing & listing.is_gallery}
    return {
        name: (len(np.unique(listing.labels[rows])), int(rows.sum()))
        for name, rows in chosen.items()
        if rows.any()
    }


# Cutting a validation part off the training part.


def hold_out_classes(listing: Listing, share: float) -> Listing:
    """The first `share` of the training classes go on training. Raises UserError if a side gets fewer than two."""
    classes = np.unique(listing.labels[listing.parts == TRAIN])
    kept = int(len(classes) * share)
    if kept < 2 or len(classes) - kept < 2:
        raise UserError(
            f"--tv_split_perc {share} of {len(classes)} training classes leaves {kept} for training and "
            f"{len(classes) - kept} for validation; both need at least 2."
        )
    return _held_out(listing, np.isin(listing.labels, classes[kept:]))


def hold_out_samples(listing: Listing, share: float) -> Listing:
    """The first `share` of the images of each class, and at least one, go on training. Raises UserError if too little is left."""
    training = np.flatnonzero(listing.parts == TRAIN)
    labels = listing.labels[training]
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = training[rank >= np.maximum(1, (sizes * share).astype(np.int64))[labels]]
    if len(np.unique(listing.labels[rows])) < 2:
        raise UserError(
            f"--tv_split_perc {share} with --tv_split_by_samples leaves no images for validation; lower it."
        )
    chosen = np.zeros(len(listing.parts), dtype=bool)
    chosen[rows] = True
    return _held_out(listing, chosen)


def hold_out_named(listing: Listing, path: str) -> Listing:
    """The training classes that a file names, one a line, are held out. Raises UserError for names that are none, and for too few."""
    try:
        wanted = {line.strip() for line in Path(path).read_text().splitlines()} - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--tv_split_classes {path} cannot be read ({getattr(error, 'strerror', None) or error})."
        ) from error
    training = set(np.unique(listing.labels[listing.parts == TRAIN]).tolist())
    labels = [
        label
        for label, category in enumerate(listing.categories)
        if label in training and wanted & {category.name, category.text}
    ]
    known = {name for label in training for name in listing.categories[label][:2]}
    if unknown := sorted(wanted - known):
        raise UserError(
            f"--tv_split_classes {path}: {named(unknown)} {'is no training class' if len(unknown) == 1 else 'are no training classes'}."
        )
    if len(labels) < 2 or len(training) - len(labels) < 2:
        raise UserError(
            f"--tv_split_classes {path} leaves {len(training) - len(labels)} classes for training and {len(labels)} for validation; "
            "both need at least 2."
        )
    return _held_out(listing, np.isin(listing.labels, labels))


def _held_out(listing: Listing, chosen: np.ndarray) -> Listing:
    """Chosen [N] images of the training part become the validation part."""
    return listing._replace(
        parts=np.where(chosen & (listing.parts == TRAIN), VALIDATION, listing.parts).astype(np.int8)
    )
