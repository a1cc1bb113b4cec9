"""Texts of classes from a file (`--class_text`): expert names, captions, or what a language model wrote about each class."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from datasets.listing import TRAIN, Listing
from utilities.errors import UserError, named

FORMS = 'a .json file {"class": "text"} or {"class": ["text", "text"]}, or a .csv file with the columns class and text, a row a text'


def with_captions(listing: Listing, path: str) -> Listing:
    """The listing with the file's texts as captions; a class is named in it as in the dataset, or by its text.

    Raises UserError for classes of the file that the dataset does not have, and for training
    classes that the file lacks.
    """
    texts = read(path)
    names = {name for category in listing.categories for name in category[:2]}
    if unknown := [name for name in texts if name not in names]:
        raise UserError(
            f"--class_text {path}: the dataset has no class {named(unknown)}; its classes are {named([category.name for category in listing.categories])}."
        )
    categories = [
        category._replace(captions=texts.get(category.name) or texts.get(category.text, ()))
        for category in listing.categories
    ]
    training = np.unique(listing.labels[listing.parts == TRAIN]).tolist()
    if missing := [categories[label].name for label in training if not categories[label].captions]:
        raise UserError(
            f"--class_text {path} has no text for the training {'class' if len(missing) == 1 else 'classes'} {named(missing)}."
        )
    return listing._replace(categories=categories)


def read(path: str) -> dict[str, tuple[str, ...]]:
    """Class -> its texts. Raises UserError for a file that cannot be read or has another form."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return _from_csv(text) if path.lower().endswith(".csv") else _from_json(text)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"--class_text {path} cannot be read ({getattr(error, 'strerror', None) or error}); expected is {FORMS}."
        ) from error


def _from_json(text: str) -> dict[str, tuple[str, ...]]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it holds no object")
    texts = {
        name: (value,) if isinstance(value, str) else tuple(value or ())
        for name, value in content.items()
        if isinstance(value, (str, list))
    }
    if wrong := [
        name
        for name in content
        if not texts.get(name)
        or not all(isinstance(caption, str) and caption.strip() for caption in texts[name])
    ]:
        raise ValueError(f"{wrong[0]!r} has no text")
    return texts


def _from_csv(text: str) -> dict[str, tuple[str, ...]]:
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if not rows or not {"class", "text"} <= rows[0].keys():
        raise ValueError("it has no columns class and text")
    if wrong := [row for row in rows if not row["class"] or not (row["text"] or "").strip()]:
        raise ValueError(
            f"the row of {wrong[0]['class']!r} has no text"
            if wrong[0]["class"]
            else "a row has no class"
        )
    texts: dict[str, tuple[str, ...]] = {}
    for row in rows:
        texts[row["class"]] = (*texts.get(row["class"], ()), row["text"])
    return texts
