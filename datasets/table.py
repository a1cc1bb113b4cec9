"""Your own: --source_path is a CSV or parquet file with a row per image.

Its columns say path, label, split, queries and gallery, captions and boxes.
"""

import difflib
import logging
import math
import os
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from datasets.listing import (
    NUMBER,
    TEST,
    TRAIN,
    VALIDATION,
    Category,
    Listing,
    first_half_trains,
    identities,
    rows_of,
    tell_alike,
)
from utilities import text_file
from utilities.errors import UserError, named, reason
from utilities.paths import absent, require_readable

if TYPE_CHECKING:
    import pyarrow

LOG = logging.getLogger(__name__)

NEEDED = ("path", "label")
COLUMNS = (*NEEDED, "split", "is_query", "is_gallery", "class_name", "superclass", "caption", "box")
SPLITS = {"train": TRAIN, "val": VALIDATION, "validation": VALIDATION, "test": TEST}
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
# What people call the known columns.
OTHER_NAMES = {
    **dict.fromkeys(("file", "filename", "file_name", "image", "image_path", "img_path"), "path"),
    **dict.fromkeys(("file_path", "filepath", "image_file", "imagepath"), "path"),
    **dict.fromkeys(("class", "class_id", "category", "target", "identity"), "label"),
    **dict.fromkeys(("part", "partition", "subset", "set", "phase"), "split"),
    **dict.fromkeys(("super_class", "supercategory", "super_category"), "superclass"),
    **dict.fromkeys(("bounding_box", "bounding_boxes"), "box"),
    **dict.fromkeys(("query", "queries"), "is_query"),
    "gallery": "is_gallery",
}
# Labels that tables have where there is none, in lower case.
MISSING = ("nan", "na", "n/a", "#n/a", "<na>", "nat", "null", "none")
BETWEEN_NUMBERS = re.compile(r"[\s,;()\[\]]+")
COORDINATE = re.compile(r"-?[0-9]{1,9}(\.[0-9]*)?")
Meaning = TypeVar("Meaning")


def read(path: Path) -> Listing:
    """One row an image, with its path relative to the table.

    Columns: `label` is what two images of one class share; `split` is train, val or test, without
    it the first half of the labels trains; `is_query` and `is_gallery` come together and divide
    test and val rows; `class_name` and `superclass` name the label; the different `caption`s of a
    label are what guidance reads of it; `box` is "left top right bottom" in pixels.

    Raises UserError for a file or column that is not as described.
    """
    columns = _columns(path)
    if absent := [name for name in NEEDED if name not in columns]:
        raise UserError(
            f"--source_path {path} has no column {absent[0]}; "
            f"needed are {' and '.join(NEEDED)}, possible {', '.join(COLUMNS[len(NEEDED) :])}."
        )
    if ("is_query" in columns) != ("is_gallery" in columns):
        raise UserError(
            f"--source_path {path} has only one of the columns is_query and is_gallery; "
            "give both or none."
        )
    _require_cells(path, columns)
    labels, categories = _categories(path, columns)
    parts = _parts(path, columns, labels, len(categories))
    whole = Listing(
        files=_files(path, columns["path"]),
        labels=labels,
        categories=categories,
        parts=parts,
        boxes=_boxes(path, columns["box"]) if "box" in columns else None,
        is_query=_flags(path, columns, "is_query", parts),
        is_gallery=_flags(path, columns, "is_gallery", parts),
    )
    return _without_repeats(path, whole)


def _columns(path: Path) -> dict[str, list[str]]:
    """Column -> texts, "" where a cell is empty; of the known columns those that are there."""
    table = _table(path)
    if not table.num_rows:
        raise UserError(f"--source_path {path}: the table has no rows.")
    names = table.column_names
    if repeated := [name for name in COLUMNS if names.count(name) > 1]:
        raise UserError(f"--source_path {path} has several columns that are called {repeated[0]}.")
    _tell_unread(path, names)
    return {
        name: [_text(cell) for cell in _cells(path, table, name)]
        for name in COLUMNS
        if name in names
    }


def _table(path: Path) -> "pyarrow.Table":
    """Raises UserError for a file that is no table."""
    import pyarrow
    from pyarrow import parquet

    try:
        require_readable(path)
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet or path.suffix.lower() == ".parquet":
            table = parquet.read_table(path)
        else:
            table = _csv(text_file.read_text(path))
        # Here, because names that are no text are found only when they are read.
        return table.rename_columns([name.strip() for name in table.column_names])
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        what = f"it cannot be read as a table ({reason(error)})."
        if path.is_dir() or not path.exists():
            what = absent(path)
        raise UserError(
            f"--source_path {path}: {what} With --dataset table it is a .csv or .parquet file."
        ) from error


def _csv(text: str) -> "pyarrow.Table":
    """A table of texts. Raises ValueError for other separators."""
    import pyarrow
    from pyarrow import csv

    text_file.require_commas(text)
    # Nothing is taken for a number: 01 and 1 are two labels, whatever stands around a name.
    texts = csv.ConvertOptions(default_column_type=pyarrow.string())
    newlines = csv.ParseOptions(newlines_in_values=True)
    source = pyarrow.py_buffer(text.encode())
    return csv.read_csv(pyarrow.BufferReader(source), convert_options=texts, parse_options=newlines)


def _cells(path: Path, table: "pyarrow.Table", name: str) -> list[object]:
    """Raises UserError for values that Python does not have, as times long after our own.

    And for cells of several values, which name no class; a box has four.
    """
    from pyarrow import types

    if name != "box" and types.is_nested(table[name].type):
        raise UserError(
            f"--source_path {path}: the cells of the column {name} hold {table[name].type} values; "
            "each must be one text or number."
        )
    try:
        return table[name].to_pylist()
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"--source_path {path}: the column {name} cannot be read ({reason(error)})."
        ) from error


def _tell_unread(path: Path, names: list[str]) -> None:
    """Tells of columns that mean nothing here.

    Raises UserError for one that is nearly called as a known column that is not there.
    """
    unread = [name for name in names if name not in COLUMNS]
    absent = [name for name in COLUMNS if name not in names]
    for name in unread:
        plain = re.sub(r"[\W_]+", "_", name.strip().lower()).strip("_")
        meant = difflib.get_close_matches(OTHER_NAMES.get(plain, plain), absent, n=1, cutoff=0.75)
        if meant:
            raise UserError(
                f"--source_path {path} has a column {name!r}; if {meant[0]} is meant, "
                "call it so, else call it something else."
            )
    if unread:
        shown = named([name or "one without a name" for name in unread])
        LOG.info("--source_path %s: columns that are not read: %s.", path, shown)


def _text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bytes):
        return os.fsdecode(cell).strip()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # whole numbers become fractions where a cell of theirs is missing
    return str(cell).strip()


def _require_cells(path: Path, columns: dict[str, list[str]]) -> None:
    """Raises UserError for a row without path or label."""
    for name in NEEDED:
        for row, cell in enumerate(columns[name]):
            if not cell:
                raise UserError(f"--source_path {path}: row {row + 1} has no {name}.")
    for row, label in enumerate(columns["label"]):
        if label.lower() in MISSING:
            raise UserError(
                f"--source_path {path}: row {row + 1} has the label {label!r}, which stands for a "
                "missing one; leave such rows out, or call the class something else."
            )


def _categories(path: Path, columns: dict[str, list[str]]) -> tuple[np.ndarray, list[Category]]:
    """Labels [N], in the order of numbers if all are, else of letters.

    And what is known of each label from its rows.
    """
    names, labels = np.unique(np.array(columns["label"], dtype=object), return_inverse=True)
    if all(NUMBER.fullmatch(name) for name in names):
        order = np.array(sorted(range(len(names)), key=lambda row: Decimal(str(names[row]))))
        names, labels = names[order], np.argsort(order)[labels]
    tell_alike(f"--source_path {path}", "labels", names.tolist())
    captions = _captions(labels, columns.get("caption", []), len(names))
    texts = _said_once(path, "class_name", columns, labels, names)
    superclasses = _said_once(path, "superclass", columns, labels, names)
    if 0 < sum(map(bool, superclasses)) < len(names):
        LOG.warning(
            "--source_path %s: %d of the %d labels, such as %s, have no super-class; super-classes "
            "are not used in the parts of the split that hold any of them.",
            path,
            superclasses.count(""),
            len(names),
            names[superclasses.index("")],
        )
    return labels, [
        Category(name, text or name, caption, superclass or None)
        for name, text, caption, superclass in zip(names, texts, captions, superclasses)
    ]


def _said_once(
    path: Path, column: str, columns: dict[str, list[str]], labels: np.ndarray, names: np.ndarray
) -> list[str]:
    """What a column says of each label, "" where it says nothing.

    Raises UserError where it says different things of one.
    """
    texts = [""] * len(names)
    for row, (label, text) in enumerate(zip(labels.tolist(), columns.get(column, []))):
        if text and texts[label] not in ("", text):
            raise UserError(
                f"--source_path {path}: row {row + 1} has {column} {text!r} for the label "
                f"{names[label]}, rows above have {texts[label]!r}."
            )
        texts[label] = texts[label] or text
    return texts


def _captions(labels: np.ndarray, cells: list[str], classes: int) -> list[tuple[str, ...]]:
    """The different captions of each class, in the order of the rows."""
    captions: list[dict[str, None]] = [{} for _ in range(classes)]  # as ordered sets
    for label, caption in zip(labels.tolist(), cells):
        if caption:
            captions[label][caption] = None
    return [tuple(texts) for texts in captions]


def _files(table: Path, paths: list[str]) -> list[str]:
    folder = os.path.abspath(table.parent)
    files = [os.path.join(folder, path) for path in paths]
    if missing := [file for file in files if not os.path.isfile(file)]:
        raise UserError(
            f"--source_path {table}: {len(missing):,} of its {len(files):,} images are missing: "
            f"{named(missing)}; paths are relative to the table."
        )
    return files


def _parts(
    table: Path, columns: dict[str, list[str]], labels: np.ndarray, classes: int
) -> np.ndarray:
    if "split" not in columns:
        return first_half_trains(labels, classes)
    return np.array(_mapped(table, "split", columns["split"], SPLITS), dtype=np.int8)


def _flags(
    table: Path, columns: dict[str, list[str]], name: str, parts: np.ndarray
) -> np.ndarray | None:
    """bool [N], false for training rows, which search among all others whatever they say."""
    if name not in columns:
        return None
    return np.array(_mapped(table, name, columns[name], FLAGS)) & (parts != TRAIN)


def _mapped(
    table: Path, column: str, cells: Sequence[str], meaning: dict[str, Meaning]
) -> list[Meaning]:
    """What each cell means. Raises UserError for one that means nothing."""
    for row, cell in enumerate(cells):
        if cell.lower() not in meaning:
            raise UserError(
                f"--source_path {table}: row {row + 1} has {column} {cell!r}; "
                f"possible are {', '.join(filter(None, meaning))}."
            )
    return [meaning[cell.lower()] for cell in cells]


def _boxes(table: Path, cells: list[str]) -> np.ndarray:
    """[N, 4] int64"""
    boxes = []
    for row, cell in enumerate(cells):
        numbers = [number for number in BETWEEN_NUMBERS.split(cell) if number]
        box = [round(float(number)) for number in numbers if COORDINATE.fullmatch(number)]
        is_box = len(box) == len(numbers) == 4
        if not is_box or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise UserError(
                f"--source_path {table}: row {row + 1} has box {cell!r}; "
                "expected are left top right bottom in pixels."
            )
        boxes.append(box)
    return np.array(boxes, dtype=np.int64)


def _without_repeats(table: Path, whole: Listing) -> Listing:
    """One row for each image, or box of it; rows that repeat it are told.

    They may say other captions, or that it is a query and in the gallery; those of another part
    stay. Raises UserError where they say another label.
    """
    boxes = [None] * len(whole.files) if whole.boxes is None else map(tuple, whole.boxes.tolist())
    first: dict[object, int] = {}
    for row, seen in enumerate(zip(identities(whole.files), boxes, whole.parts.tolist())):
        earlier = first.setdefault(seen, row)
        if whole.labels[earlier] != whole.labels[row]:
            raise UserError(
                f"--source_path {table}: the rows {earlier + 1} and {row + 1} are of the same "
                f"image, {whole.files[row]}, with different labels."
            )
        for flags in (whole.is_query, whole.is_gallery):
            if flags is not None:
                flags[earlier] |= flags[row]
    rows = np.array(list(first.values()))
    if repeats := len(whole.files) - len(rows):
        LOG.warning(
            "--source_path %s: %d rows repeat the image of another row; each is taken once.",
            table,
            repeats,
        )
    return rows_of(whole, rows)
