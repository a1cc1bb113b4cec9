"""Your own: --source_path is a CSV or parquet file with a row per image: path, label, split, queries and gallery, captions, boxes."""

import os
import re
from pathlib import Path

import numpy as np

from datasets.listing import TEST, TRAIN, VALIDATION, Category, Listing, first_half_trains
from utilities.errors import UserError, named, reason

NEEDED = ("path", "label")
COLUMNS = (*NEEDED, "split", "is_query", "is_gallery", "class_name", "superclass", "caption", "box")
SPLITS = {"train": TRAIN, "val": VALIDATION, "validation": VALIDATION, "test": TEST}
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


def read(path: Path) -> Listing:
    """One row an image, with its path relative to the table. Raises UserError for a file or column that is not as described below.

    Columns: `label` is what two images of one class share; `split` is train, val or test, without
        it the first half of the labels trains;
    `is_query` and `is_gallery` come together and divide the test rows; `class_name` and
    `superclass` name the label; the different `caption`s of a label are what guidance reads of it;
    `box` is "left top right bottom" in pixels.
    """
    columns = {name: values for name, values in _columns(path).items() if name in COLUMNS}
    if absent := [name for name in NEEDED if name not in columns]:
        raise UserError(
            f"--source_path {path} has no column {absent[0]}; needed are {' and '.join(NEEDED)}, possible {', '.join(COLUMNS[len(NEEDED) :])}."
        )
    if ("is_query" in columns) != ("is_gallery" in columns):
        raise UserError(
            f"--source_path {path} has only one of the columns is_query and is_gallery; give both or none."
        )
    labels, categories = _categories(columns)
    parts = (
        np.array(_mapped(path, "split", columns["split"], SPLITS), dtype=np.int8)
        if "split" in columns
        else first_half_trains(labels, len(categories))
    )
    return Listing(
        _files(path, columns["path"]),
        labels,
        categories,
        parts,
        boxes=_boxes(path, columns["box"]) if "box" in columns else None,
        **{
            name: np.array(_mapped(path, name, columns[name], FLAGS))
            for name in ("is_query", "is_gallery")
            if name in columns
        },
    )


def _columns(path: Path) -> dict[str, list[str]]:
    """Column -> texts, "" where a cell is empty."""
    import pyarrow
    from pyarrow import csv, parquet

    try:
        if path.suffix.lower() == ".parquet":
            found = parquet.read_table(path)
        else:
            texts = csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pyarrow.string()))
            found = csv.read_csv(
                path, convert_options=texts, parse_options=csv.ParseOptions(newlines_in_values=True)
            )
    except (OSError, pyarrow.ArrowException) as error:
        what = (
            "there is no such file"
            if not path.exists()
            else f"it cannot be read as a table ({reason(error)})"
        )
        raise UserError(
            f"--source_path {path}: {what}; with --dataset table it is a .csv or .parquet file."
        ) from error
    if not found.num_rows:
        raise UserError(f"--source_path {path}: the table has no rows.")
    return {
        name: ["" if value is None else str(value).strip() for value in found[name].to_pylist()]
        for name in found.column_names
        if name in COLUMNS
    }


def _categories(columns: dict[str, list[str]]) -> tuple[np.ndarray, list[Category]]:
    """Labels [N], in the order of numbers if all are, else of letters; and what is known of each from its rows."""
    names, first, labels = np.unique(columns["label"], return_index=True, return_inverse=True)
    if all(name.isdecimal() for name in names):
        order = np.argsort(names.astype(np.int64), kind="stable")
        names, first, labels = names[order], first[order], np.argsort(order)[labels]
    captions = [{} for _ in names]
    for label, caption in zip(labels.tolist(), columns.get("caption", ())):
        if caption:
            captions[label][caption] = None  # as an ordered set
    texts, superclasses = columns.get("class_name"), columns.get("superclass")
    return labels, [
        Category(
            str(name),
            texts and texts[row] or str(name),
            tuple(own),
            superclasses and superclasses[row] or None,
        )
        for name, row, own in zip(names, first.tolist(), captions)
    ]


def _files(table: Path, paths: list[str]) -> list[str]:
    folder = os.path.abspath(table.parent)
    files = [os.path.join(folder, path) for path in paths]
    if missing := [file for file in files if not os.path.isfile(file)]:
        raise UserError(
            f"--source_path {table}: {len(missing):,} of its {len(files):,} images are missing: {named(missing)}; paths are relative to the table."
        )
    return files


def _mapped(table: Path, column: str, cells: list[str], meaning: dict) -> list:
    values = [meaning.get(cell.lower()) for cell in cells]
    if None in values:
        row = values.index(None)
        raise UserError(
            f"--source_path {table}: row {row + 1} has {column} {cells[row]!r}; possible are {', '.join(filter(None, meaning))}."
        )
    return values


def _boxes(table: Path, cells: list[str]) -> np.ndarray:
    boxes = [
        [round(float(number)) for number in re.findall(r"-?\d+(?:\.\d+)?", cell)] for cell in cells
    ]
    for row, box in enumerate(boxes):
        if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise UserError(
                f"--source_path {table}: row {row + 1} has box {cells[row]!r}; expected are left top right bottom in pixels."
            )
    return np.array(boxes, dtype=np.int64)
