"""--dataset folder and --dataset table."""

import csv
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

import datasets
from datasets import folder, table
from datasets.listing import TEST, TRAIN, VALIDATION
from utilities.errors import UserError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def names(split) -> list[str]:
    return [Path(file).name for file in split.files]


# Folders.


@pytest.mark.parametrize("above", ["", "a/deep/tree/"])
def test_folders_with_images_are_classes(tmp_path, above):
    touch(
        tmp_path,
        *(
            f"{above}{number}.class_{number}/{number}_{image}.jpg"
            for number in (2, 10, 1, 3)
            for image in range(2)
        ),
        "stray.jpg",
        f"{above}2.class_2/._x.jpg",
        f"{above}2.class_2/notes.txt",
        ".hidden/a.jpg",
    )
    splits = datasets.select("folder", str(tmp_path))
    assert splits.training.class_texts == ["class 1", "class 2"]
    assert splits.testing.class_texts == ["class 3", "class 10"]
    assert splits.training.superclasses is None and splits.validation is None
    assert len(splits.training) == len(splits.testing) == 4


def test_folders_above_are_coarser_classes(tmp_path):
    touch(
        tmp_path,
        *(
            f"{kind}/{name}/0.jpg"
            for kind, name in (
                ("bird", "robin"),
                ("bird", "jay"),
                ("fish", "cod"),
                ("fish", "eel"),
                ("ape", "orang_utan"),
                ("fish", "jay"),
            )
        ),
    )
    found = folder.read(tmp_path)
    assert [
        (category.name, category.text, category.superclass) for category in found.categories
    ] == [
        ("ape/orang_utan", "orang utan", "ape"),
        ("bird/jay", "jay", "bird"),
        ("bird/robin", "robin", "bird"),
        ("fish/cod", "cod", "fish"),
        ("fish/eel", "eel", "fish"),
        ("fish/jay", "jay", "fish"),
    ]


def test_train_val_and_test_folders_are_the_split(tmp_path):
    touch(
        tmp_path,
        *(
            f"{part}/{name}/{image}.png"
            for part, own in (("train", "ab"), ("val", "cd"), ("Test", "efg"))
            for name in own
            for image in range(2)
        ),
        "train/stray.png",
    )
    splits = datasets.select("folder", str(tmp_path))
    assert [split.class_texts for split in splits] == [["a", "b"], ["c", "d"], ["e", "f", "g"]]
    assert all(
        split.labels.tolist()
        == [label for label in range(len(split.class_texts)) for _ in range(2)]
        for split in splits
    )


def test_classes_on_both_sides_are_told(tmp_path, caplog):
    touch(
        tmp_path,
        *(
            f"{part}/{name}/{part}{image}.png"
            for part in ("train", "test")
            for name in "ab"
            for image in range(2)
        ),
    )
    splits = datasets.select("folder", str(tmp_path))
    assert splits.training.class_texts == splits.testing.class_texts == ["a", "b"]
    assert names(splits.testing) == ["test0.png", "test1.png"] * 2
    assert "2 classes, such as a," in caplog.text


@pytest.mark.parametrize(
    "paths, part",
    [
        ([], "0 class folders"),
        (["a/0.jpg", "b/0.jpg", "c/0.jpg"], "3 class folders"),
        (["train/a/0.jpg", "test/b/0.jpg"], "training part has 1"),
        (["train/0.jpg", "test/0.jpg"], "2 class folders"),
        (
            ["train/a/0.jpg", "train/b/0.jpg", "test/c/0.jpg", "test/d/0.jpg", "other/e/0.jpg"],
            "other",
        ),
    ],
)
def test_wrong_folders(tmp_path, paths, part):
    with pytest.raises(UserError, match=part):
        datasets.select("folder", str(touch(tmp_path, *paths)))
    with pytest.raises(UserError, match="there is no such folder"):
        datasets.select("folder", str(tmp_path / "nowhere"))


def in_parts(root: Path, parts: dict[str, str], images: int = 2) -> Path:
    """Empty images in `<part>/<class>/`, a letter a class; those of a part without are in it."""
    for part, own in parts.items():
        for name in own or [""]:
            touch(root, *(f"{part}/{name}/{number}.png" for number in range(images)))
    return root


@pytest.mark.parametrize(
    "training, held_out", [("train", "val"), ("Train", "VALID"), ("seg_train2", "seg_dev")]
)
@pytest.mark.parametrize("above", ["", "archive/"])
def test_without_a_test_part_the_validation_part_tests(tmp_path, caplog, above, training, held_out):
    in_parts(tmp_path, {above + training: "abcde", above + held_out: "abc"})
    splits = datasets.select("folder", str(tmp_path))
    assert splits.training.class_texts == list("abcde")
    assert splits.testing.class_texts == list("abc") and splits.validation is None
    assert f"{above}{held_out} is the test part" in caplog.text
    assert "3 classes, such as a, are in training and in test" in caplog.text


@pytest.mark.parametrize(
    "parts, words",
    [
        ({"train": "ab", "query": "cd", "gallery": "cd"}, ["gallery/, query/", "is_query"]),
        ({"train": "ab", "test": "cd", "query": "cd"}, ["query/", "is_gallery"]),
        ({"bounding_box_train": "ab", "bounding_box_test": "cd", "query": "cd"}, ["is_gallery"]),
        ({"val": "abcd", "test": "efgh"}, ["no train/"]),
        ({"query": "abcd", "gallery": "abcd"}, ["is_gallery"]),
        ({"train": "abcd", "test": ""}, ["test", "no class folder"]),
        ({"train": "", "val": "", "test": "", "dev": ""}, ["parts of a split", "class folders"]),
        ({"a/train": "xy", "a/test": "xy", "b/train": "xy"}, ["test, train", "within other"]),
        ({"a": ["train", "val"], "b": ["train", "val"]}, ["within other folders"]),
        ({"train": ["left/train", "left/val"], "test": "ab"}, ["within other folders"]),
        ({"train": "ab", "val": "ab", "more": "ab"}, ["more", "belongs to no part"]),
    ],
)
def test_parts_that_make_no_split(tmp_path, parts, words):
    with pytest.raises(UserError) as error:
        datasets.select("folder", str(in_parts(tmp_path, parts)))
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("name", ["train", "test", "gallery", "train_station"])
def test_a_class_may_be_called_as_a_part(tmp_path, name):
    in_parts(tmp_path, {"bus": "", "car": "", name: "", "van": ""})
    splits = datasets.select("folder", str(tmp_path))
    texts = {*splits.training.class_texts, *splits.testing.class_texts}
    assert texts == {"bus", "car", name.replace("_", " "), "van"}


def test_a_coarser_class_called_train_is_told(tmp_path, caplog):
    in_parts(tmp_path, {"car": "ab", "train": "cd"})
    assert len(folder.read(tmp_path).categories) == 4
    assert "train is taken for a coarser class" in caplog.text


# Tables.

ROWS = [
    {
        "path": f"images/{label}_{image}.jpg",
        "label": label,
        "split": "train" if label < 3 else "test",
    }
    for label in (1, 10, 2, 9)
    for image in range(2)
]


def written(folder: Path, rows: list[dict], kind: str = "csv") -> str:
    """A table beside its images."""
    paths = [row["path"] for row in rows if "path" in row]
    touch(folder, *(path for path in paths if not path.startswith("/")))
    path = folder / f"table.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_by_its_columns(tmp_path, kind):
    extra = [
        row
        | {
            "class_name": f"Name {row['label']}",
            "superclass": "xy"[row["label"] % 2],
            "box": "1 2 30 40" if kind == "csv" else [1, 2, 30, 40],
            "caption": "" if number % 3 else f"caption, number {number}\nof it",
            "unknown": 3.5,
            "is_query": number % 2 == 0,
            "is_gallery": number % 2 == 1,
        }
        for number, row in enumerate(ROWS)
    ]
    splits = datasets.select("table", written(tmp_path, extra, kind))
    assert splits.training.class_texts == ["Name 1", "Name 2"]
    assert splits.testing.class_texts == ["Name 9", "Name 10"]
    assert names(splits.testing) == ["10_0.jpg", "10_1.jpg", "9_0.jpg", "9_1.jpg"]
    assert splits.testing.labels.tolist() == [1, 1, 0, 0]
    assert all(
        Path(file).is_file() for split in (splits.training, splits.testing) for file in split.files
    )
    texts = [(f"caption, number {number}\nof it",) for number in (0, 6, 3)]
    assert splits.training.captions == [texts[0], ("Name 2",)]
    assert splits.testing.captions == texts[1:]
    assert splits.testing.superclasses.tolist() == [1, 0]
    assert splits.testing.boxes.tolist() == [[1, 2, 30, 40]] * 4
    assert splits.testing.is_query.tolist() == [True, False] * 2
    assert splits.testing.is_gallery.tolist() == [False, True] * 2


def test_only_path_and_label_are_needed(tmp_path):
    rows = [{"path": row["path"], "label": "abcd"[number // 2]} for number, row in enumerate(ROWS)]
    splits = datasets.select("table", written(tmp_path, rows))
    assert splits.training.class_texts == ["a", "b"] and splits.testing.class_texts == ["c", "d"]
    assert splits.testing.is_query is None and splits.testing.boxes is None


def test_labels_keep_their_zeros_and_paths_may_be_absolute(tmp_path):
    touch(tmp_path / "elsewhere", "0.jpg")
    absolute = str(tmp_path / "elsewhere" / "0.jpg")
    rows = [{"path": row["path"], "label": f"00{number // 2}"} for number, row in enumerate(ROWS)]
    rows.append({"path": absolute, "label": "003"})
    found = table.read(Path(written(tmp_path, rows)))
    assert [category.name for category in found.categories] == ["000", "001", "002", "003"]
    assert found.files[-1] == absolute


def test_validation_rows_are_the_validation_split(tmp_path):
    splits = ["train", "train", "val", "Validation", "test", "test"]
    rows = [
        {"path": f"{label}_{image}.jpg", "label": label, "split": split}
        for label, split in enumerate(splits)
        for image in range(2)
    ]
    found = table.read(Path(written(tmp_path, rows)))
    assert found.parts.tolist() == [
        part for part in (TRAIN, TRAIN, VALIDATION, VALIDATION, TEST, TEST) for _ in range(2)
    ]
    chosen = datasets.select("table", str(tmp_path / "table.csv"), validation=True)
    assert chosen.validation.class_texts == ["2", "3"]


def changed(row: int | None = None, **cells) -> list[dict]:
    return [{**old, **cells} if row in (None, number) else old for number, old in enumerate(ROWS)]


def dropped(column: str) -> list[dict]:
    return [{name: cell for name, cell in row.items() if name != column} for row in ROWS]


@pytest.mark.parametrize(
    "rows, parts",
    [
        (dropped("label"), ["no column label"]),
        (dropped("path"), ["no column path"]),
        (changed(5, split="dev"), ["row 6", "'dev'", "train, val"]),
        (changed(is_query=1), ["only one of the columns"]),
        ([row | {"is_query": "maybe", "is_gallery": 1} for row in ROWS], ["row 1", "'maybe'"]),
        ([row | {"box": "1 2 3"} for row in ROWS], ["row 1", "'1 2 3'", "left top right bottom"]),
        ([row | {"box": "9 2 3 4"} for row in ROWS], ["row 1"]),
        (changed(2, path="/nowhere/0.jpg"), ["1 of its 8 images are missing: /nowhere/0.jpg"]),
        (changed(split="train"), ["test part has 0 classes"]),
        (ROWS + [ROWS[0] | {"split": "test"}], ["1 images are in training and in test"]),
    ],
)
def test_wrong_tables(tmp_path, rows, parts):
    with pytest.raises(UserError) as error:
        datasets.select("table", written(tmp_path, rows))
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize(
    "name, content",
    [
        ("nowhere.csv", None),
        ("a.csv", b""),
        ("a.parquet", b"no parquet"),
        ("a.csv", b"path,label\n"),
        ("a.csv", b"path,label\na\n"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"--source_path .*{name}"):
        datasets.select("table", str(tmp_path / name))
    with pytest.raises(UserError, match="--source_path"):
        datasets.select("table", str(tmp_path))
