"""Your own: --source_path is a CSV or parquet file with a row per image.

Its columns say path, label, split, queries and gallery, captions and boxes.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from datasets.listing import TEST, TRAIN, VALIDATION, Category, Listing, first_half_trains
from utilities.errors import UserError, named, reason

NEEDED = ("path", "label")
COLUMNS = (*NEEDED, "split", "is_query", "is_gallery", "class_name", "superclass", "caption", "box")
SPLITS = {"train": TRAIN, "val": VALIDATION, "validation": VALIDATION, "test": TEST}
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
Meaning = TypeVar("Meaning")


def read(path: Path) -> Listing:
    """One row an image, with its path relative to the table.

    Columns: `label` is what two images of one class share; `split` is train, val or test, without
    it the first half of the labels trains; `is_query` and `is_gallery` come together and divide the
    test rows; `class_name` and `superclass` name the label; the different `caption`s of a label are
    what guidance reads of it; `box` is "left top right bottom" in pixels.

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
    labels, categories = _categories(columns)
    parts = _parts(path, columns, labels, len(categories))
    return Listing(
        files=_files(path, columns["path"]),
        labels=labels,
        categories=categories,
        parts=parts,
        boxes=_boxes(path, columns["box"]) if "box" in columns else None,
        is_query=_flags(path, columns, "is_query"),
        is_gallery=_flags(path, columns, "is_gallery"),
    )


def _columns(path: Path) -> dict[str, list[str]]:
    """Column -> texts, "" where a cell is empty; of the known columns those that are there."""
    import pyarrow
    from pyarrow import csv, parquet

    try:
        if path.suffix.lower() == ".parquet":
            table = parquet.read_table(path)
        else:
            texts = csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pyarrow.string()))
            newlines = csv.ParseOptions(newlines_in_values=True)
            table = csv.read_csv(path, convert_options=texts, parse_options=newlines)
    except (OSError, pyarrow.ArrowException) as error:
        what = "there is no such file"
        if path.exists():
            what = f"it cannot be read as a table ({reason(error)})"
        raise UserError(
            f"--source_path {path}: {what}; with --dataset table it is a .csv or .parquet file."
        ) from error
    if not table.num_rows:
        raise UserError(f"--source_path {path}: the table has no rows.")
    known = [name for name in table.column_names if name in COLUMNS]
    return {name: [_text(cell) for cell in table[name].to_pylist()] for name in known}


def _text(cell: object) -> str:
    return "" if cell is None else str(cell).strip()


def _categories(columns: dict[str, list[str]]) -> tuple[np.ndarray, list[Category]]:
    """Labels [N], in the order of numbers if all are, else of letters.

    And what is known of each label from its rows.
    """
    names, first, labels = np.unique(columns["label"], return_index=True, return_inverse=True)
    if all(name.isdecimal() for name in names):
        order = np.argsort(names.astype(np.int64), kind="stable")
        names, first, labels = names[order], first[order], np.argsort(order)[labels]
    captions = _captions(labels, columns.get("caption", []), len(names))
    empty = [""] * len(labels)
    texts, superclasses = columns.get("class_name", empty), columns.get("superclass", empty)
    return labels, [
        Category(str(name), texts[row] or str(name), captions[label], superclasses[row] or None)
        for label, (name, row) in enumerate(zip(names, first.tolist()))
    ]


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


def _flags(table: Path, columns: dict[str, list[str]], name: str) -> np.ndarray | None:
    if name not in columns:
        return None
    return np.array(_mapped(table, name, columns[name], FLAGS))


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
        box = [round(float(number)) for number in re.findall(r"-?\d+(?:\.\d+)?", cell)]
        if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise UserError(
                f"--source_path {table}: row {row + 1} has box {cell!r}; "
                "expected are left top right bottom in pixels."
            )
        boxes.append(box)
    return np.array(boxes, dtype=np.int64)
