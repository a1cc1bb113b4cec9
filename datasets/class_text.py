"""Texts of classes from a file (`--class_text`).

Expert names, captions, or what a language model wrote about each class.
"""

import csv
import io
import logging

import numpy as np

from datasets.listing import TRAIN, Listing
from utilities import text_file
from utilities.choices import ambiguous, called_twice, hint
from utilities.documents import from_json
from utilities.errors import UserError, named
from utilities.rows import as_written

LOG = logging.getLogger(__name__)
FORMS = (
    'a .json file {"class": "text"} or {"class": ["text", "text"]}, '
    "or a .csv file with the columns class and text, a row a text"
)


def with_captions(listing: Listing, path: str) -> Listing:
    """The listing with the file's texts as captions.

    A class is named in the file as in the dataset, or by its text. Other classes than those that
    train may lack a text, which is told. Raises UserError for classes of the file that the dataset
    does not have or that it names in both ways, and for training classes that the file lacks.
    """
    texts = read(path)
    class_names = [category.name for category in listing.categories]
    known = dict.fromkeys([*class_names, *(category.text for category in listing.categories)])
    if unknown := [name for name in texts if name not in known]:
        raise UserError(
            f"--class_text {path}: the dataset has no class {named(unknown)}; "
            + hint(unknown, list(known), "names of its classes are")
        )
    names = [category[:2] for category in listing.categories]
    if unclear := ambiguous(texts, names):
        raise UserError(f"--class_text {path}: {unclear}")
    if twice := called_twice(texts, names):
        raise UserError(
            f"--class_text {path} has texts of one class under two names, "
            f"{' and '.join(map(repr, twice[0]))}; put them under one of them."
        )
    categories = [
        category._replace(captions=texts.get(category.name) or texts.get(category.text, ()))
        for category in listing.categories
    ]
    training = np.unique(listing.labels[listing.parts == TRAIN]).tolist()
    if missing := [class_names[label] for label in training if not categories[label].captions]:
        classes = "class" if len(missing) == 1 else "classes"
        raise UserError(
            f"--class_text {path} has no text for the training {classes} {named(missing)}."
        )
    if named_only := [each.name for each in categories if not each.captions]:
        LOG.info(
            "--class_text %s has no text for classes that do not train (%s): metrics and figures "
            "that compare classes with language read their names.",
            path,
            named(named_only),
        )
    return listing._replace(categories=categories)


def read(path: str) -> dict[str, tuple[str, ...]]:
    """Class -> its texts. Raises UserError for a file that cannot be read or has another form."""
    try:
        content = text_file.read_text(path)
        return _from_csv(content) if path.lower().endswith(".csv") else _from_json(content)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"--class_text {path} cannot be read ({getattr(error, 'strerror', None) or error}); "
            f"expected is {FORMS}."
        ) from error


def _from_json(content: str) -> dict[str, tuple[str, ...]]:
    classes = from_json(content)
    if not isinstance(classes, dict):
        raise ValueError("it holds no object")
    texts = {}
    for name, value in classes.items():
        captions = [value] if isinstance(value, str) else value
        if not captions or not isinstance(captions, list) or not all(map(_is_text, captions)):
            raise ValueError(f"{name!r} has no text")
        texts[name] = tuple(captions)
    return texts


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _from_csv(content: str) -> dict[str, tuple[str, ...]]:
    text_file.require_commas(content)
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    rows, columns = list(reader), list(reader.fieldnames or ())
    if not {"class", "text"} <= set(columns):
        raise ValueError("it has no columns class and text")
    if not rows:
        raise ValueError("it has no rows")
    if repeated := [name for name in ("class", "text") if columns.count(name) > 1]:
        raise ValueError(f"it has several columns {repeated[0]}")
    texts: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if not (row["class"] or "").strip():
            raise ValueError("a row has no class")
        if not (row["text"] or "").strip():
            raise ValueError(f"the row of {row['class']!r} has no text")
        if any(row.get(reader.restkey) or ()):
            raise ValueError(
                f"the row of {row['class']!r} has more cells than there are columns; texts with "
                "commas stand in quotes"
            )
        name = as_written(row["class"])
        texts[name] = (*texts.get(name, ()), as_written(row["text"]))
    return texts
