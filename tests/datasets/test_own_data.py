"""--dataset folder and --dataset table."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
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
        (["a/0.jpg"], "1 class folder with .* Each class is a folder of its images"),
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
    (tmp_path / "a.csv").write_text("path,label\n")
    with pytest.raises(UserError, match="it is a file, not a folder"):
        datasets.select("folder", str(tmp_path / "a.csv"))
    with pytest.raises(UserError, match="it is a folder, not a file"):
        datasets.select("table", str(tmp_path))


@pytest.mark.parametrize("part, label", [("train", "a"), ("val", "c"), ("test", "e")])
@pytest.mark.parametrize("place", ["{label}/9.png", "z/9.png"], ids=["its class", "another class"])
@pytest.mark.parametrize("is_hard", [True, False], ids=["hard", "symbolic"])
def test_images_that_a_part_has_twice_are_told(tmp_path, caplog, part, label, place, is_hard):
    labels = {"train": "abz", "val": "cdz", "test": "efz"}
    paths = [f"{top}/{each}/{top}{n}.png" for top in labels for each in labels[top] for n in (0, 1)]
    touch(tmp_path, *paths)
    validation = {"validation": True} if part == "val" else {}
    datasets.select("folder", str(tmp_path), **validation)
    assert "already" not in caplog.text
    image = tmp_path / f"{part}/{label}/{part}0.png"
    again = tmp_path / part / place.format(label=label)
    again.hardlink_to(image) if is_hard else again.symlink_to(image)
    datasets.select("folder", str(tmp_path), **validation)
    title = {"train": "training", "val": "validation"}.get(part, part)
    assert f"1 of the 7 images of the {title} part are in it already" in caplog.text
    first, second = sorted((image, again))
    assert f"{first} and {second} are one file" in caplog.text


def test_a_hard_link_is_the_same_image(tmp_path):
    """As tools that save room make of images that are there twice."""
    root = in_parts(tmp_path, {"train": "ab", "test": "cd"})
    twice = root / "test" / "c" / "0.png"
    twice.unlink()
    twice.hardlink_to(root / "train" / "a" / "0.png")
    names = f"{root}/train/a/0.png and {root}/test/c/0.png are one file"
    with pytest.raises(UserError, match=f"{names}: 1 image is in training and in test"):
        datasets.select("folder", str(root))


def test_folders_above_the_class_folders_are_told(tmp_path, caplog):
    """A split under names that this program does not know would be coarser classes."""
    caplog.set_level("INFO")
    paths = [f"{top}/{name}/0.jpg" for top in "xy" for name in "ab"]
    datasets.read("folder", touch(tmp_path / "deep", *paths))
    assert "are coarser classes (x/, y/); a split is made by folders train/" in caplog.text
    caplog.clear()
    datasets.read("folder", touch(tmp_path / "flat", *(f"{name}/0.jpg" for name in "abcd")))
    assert "coarser" not in caplog.text


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


@pytest.mark.parametrize("options", [{}, {"validation": True, "training_share": 0.5}])
def test_queries_and_gallery_divide_no_training_rows(tmp_path, options):
    """Where all rows say something, the training part was searched as the test part is."""
    rows = [
        {"path": f"{label}_{image}.jpg", "label": label, "is_query": image, "is_gallery": 1 - image}
        for label in range(8)
        for image in range(2)
    ]
    splits = datasets.select("table", written(tmp_path, rows), **options)
    for split in filter(None, splits[:2]):
        assert split.is_query is split.is_gallery is None
    assert splits.testing.is_query.tolist() == [False, True] * 4
    assert splits.testing.is_gallery.tolist() == [True, False] * 4


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
        (ROWS + [ROWS[0] | {"split": "test"}], ["1 image is in training and in test"]),
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


def with_flags(*flags: tuple[int, int]) -> list[dict]:
    """Rows whose last four, of the test part, are queries and in the gallery as said."""
    columns = [(0, 0)] * 4 + list(flags)
    return [
        row | {"is_query": is_query, "is_gallery": is_gallery}
        for row, (is_query, is_gallery) in zip(sorted(ROWS, key=lambda row: row["label"]), columns)
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("label", [None, "", " ", "NaN", "NA", "null", "None", "<NA>", "#N/A"])
def test_rows_without_label(tmp_path, kind, label):
    rows = [{**row, "label": f"c{row['label']}"} for row in ROWS]
    rows[5]["label"] = label
    with pytest.raises(UserError, match="row 6 has (no|the) label"):
        datasets.select("table", written(tmp_path, rows, kind))


def test_numbers_among_which_some_are_missing(tmp_path):
    rows = [{**row, "label": float(row["label"])} for row in ROWS]
    found = table.read(Path(written(tmp_path, rows, "parquet")))
    assert [category.name for category in found.categories] == ["1", "2", "9", "10"]
    rows[2]["label"] = float("nan")
    with pytest.raises(UserError, match="row 3 has no label"):
        table.read(Path(written(tmp_path, rows, "parquet")))


def test_labels_of_many_digits_are_in_the_order_of_numbers(tmp_path):
    labels = ["92233720368547758070", "9" * 5000, "92233720368547758069", "-3", "2.5", "1"]
    rows = [{"path": f"{row}.jpg", "label": label} for row, label in enumerate(labels)]
    found = table.read(Path(written(tmp_path, rows)))
    names = ["-3", "1", "2.5", "92233720368547758069", "92233720368547758070", "9" * 5000]
    assert [category.name for category in found.categories] == names
    assert [found.categories[label].name for label in found.labels] == labels


@pytest.mark.parametrize("spelling", ["images/10_0.jpg", "./images/10_0.jpg", "images//10_0.jpg"])
@pytest.mark.parametrize("way", ["plain", "absolute", "link"])
def test_repeated_rows_are_taken_once_and_told(tmp_path, caplog, way, spelling):
    if way == "absolute":
        spelling = f"{tmp_path}/{spelling}"
    rows = changed(is_query=0, is_gallery=1) + [
        ROWS[2] | {"path": spelling, "is_query": 1, "is_gallery": 0}
    ]
    path = written(tmp_path, rows)
    if way == "link":
        (tmp_path / "images" / "again.jpg").symlink_to("10_0.jpg")
        rows[-1]["path"] = "images/again.jpg"
        path = written(tmp_path, rows)
    found = table.read(Path(path))
    assert len(found.files) == 8 and "1 rows repeat" in caplog.text
    assert found.is_query.tolist() == [row == 2 for row in range(8)]
    assert found.is_gallery.tolist() == [row in (2, 3, 6, 7) for row in range(8)]  # of the test


def test_boxes_of_one_image_are_several_images(tmp_path):
    rows = [row | {"box": f"{start} 0 9 9"} for start in (0, 1) for row in ROWS]
    assert len(table.read(Path(written(tmp_path, rows))).files) == 16


@pytest.mark.parametrize("column", ["class_name", "superclass"])
def test_what_is_said_of_a_label(tmp_path, caplog, column):
    rows = changed(**{column: "x"})
    rows[0][column] = rows[4][column] = rows[5][column] = ""  # 4 and 5 are all of a class
    path = written(tmp_path, rows)
    found = table.read(Path(path))
    values = [getattr(found.categories[0], name) for name in ("text", "superclass")]
    assert values == (["x", None] if column == "class_name" else ["1", "x"])
    is_told = column == "superclass"
    told = "such as 2, have no super-class; super-classes are not used in the parts"
    assert (told in caplog.text) == is_told
    splits = datasets.select("table", path)
    has_any = [split.superclasses is not None for split in (splits.training, splits.testing)]
    assert has_any == [False, is_told]
    rows[1][column] = "y"
    rows[0][column] = "x"
    with pytest.raises(UserError, match=f"row 2 has {column} 'y' for the label 1"):
        table.read(Path(written(tmp_path, rows)))


@pytest.mark.parametrize(
    "column, meant",
    [
        ("Split", "split"),
        ("isquery", "is_query"),
        ("is gallery", "is_gallery"),
        ("partition", "split"),
        ("captions", "caption"),
        ("bbox", "box"),
        ("className", "class_name"),
        ("super_class", "superclass"),
    ],
)
def test_columns_that_are_nearly_known(tmp_path, column, meant):
    rows = [{name: row[name] for name in ("path", "label")} | {column: 1} for row in ROWS]
    with pytest.raises(UserError, match=f"has a column '{column}'; if {meant} is meant"):
        table.read(Path(written(tmp_path, rows)))


def test_other_columns_are_told(tmp_path, caplog):
    caplog.set_level(logging.INFO, "datasets")
    table.read(Path(written(tmp_path, changed(labels=1, camera=2))))
    assert "columns that are not read: labels, camera" in caplog.text


@pytest.mark.parametrize(
    "rows, words",
    [
        (ROWS + [ROWS[0] | {"label": 10}], ["rows 1 and 9", "different labels"]),
        (
            ROWS + [ROWS[0] | {"path": "./images/../images/1_0.jpg", "split": "test"}],
            ["1 image is in training and in test"],
        ),
        (
            ROWS + [ROWS[0] | {"path": "images//1_0.jpg", "split": "val"}, ROWS[2]],
            ["validation part has 1 classes"],
        ),
        (with_flags((1, 0), (1, 0), (1, 0), (1, 0)), ["4 queries and 0 images in the gallery"]),
        (with_flags((0, 1), (0, 1), (0, 1), (0, 1)), ["0 queries and 4 images in the gallery"]),
        ([row | {"box": "1 2 inf 9"} for row in ROWS], ["row 1", "'1 2 inf 9'"]),
        ([row | {"box": "1 2 1e9 9"} for row in ROWS], ["row 1"]),
        ([row | {"box": "1 2 99999999999999999999 9"} for row in ROWS], ["row 1"]),
        ([row | {"box": "1 2 3 4 5"} for row in ROWS], ["row 1"]),
        ([row | {"box": ""} for row in ROWS], ["row 1"]),
        ([row | {"path": ""} for row in ROWS], ["row 1 has no path"]),
    ],
)
def test_tables_that_contradict_themselves(tmp_path, rows, words):
    written(tmp_path, [row for row in rows if row["path"]] or ROWS)
    with pytest.raises(UserError) as error:
        datasets.select("table", written(tmp_path, rows) if rows[0]["path"] else emptied(tmp_path))
    assert all(word in str(error.value) for word in words), error.value


def emptied(folder: Path) -> str:
    (folder / "table.csv").write_text("path,label\n,1\n")
    return str(folder / "table.csv")


def test_what_cannot_be_measured_is_told(tmp_path, caplog):
    datasets.select("table", written(tmp_path, with_flags((1, 0), (1, 0), (0, 1), (0, 1))))
    assert "no two images of a class that could find each other" in caplog.text
    assert "gallery of one class" in caplog.text
    caplog.clear()
    datasets.select("table", written(tmp_path, with_flags((1, 0), (0, 1), (0, 1), (0, 0))))
    assert "1 images that neither search nor are found" in caplog.text
    caplog.clear()
    datasets.select("table", written(tmp_path, with_flags((0, 0), (0, 0), (0, 0), (0, 0))))
    assert "no image of the test part is a query" in caplog.text


def test_counts_of_queries_and_gallery(tmp_path):
    rows = with_flags((1, 0), (0, 1), (1, 1), (0, 1))
    splits = datasets.select("table", written(tmp_path, rows))
    assert splits.testing.describe() == "2 classes, 4 images, 2 queries, 3 in the gallery"
    assert splits.training.describe() == "2 classes, 4 images"


@pytest.mark.parametrize(
    "content, words",
    [
        (b"path,label,label\na,1,1\n", ["several columns that are called label"]),
        (b"path;label\na;1\n", ["semicolons"]),
        (b"path\tlabel\na\t1\n", ["tabs"]),
        (b"path,label\n\xff,1\n", ["line 2 is no UTF-8 text"]),
        (b"path,label,\xff\n\xff,1,2\n", ["line 1 is no UTF-8 text"]),
        (b"\n\n\n", []),
        (b"\0\0\0", []),
        (b"path,label\na\0b,1\n", []),
        (b'path,label\n"a,1\n', []),
        (b"PAR1" + b"\0" * 40, []),
        (b"path,label\n" + b"x" * 5000 + b",1\n", ["missing"]),
    ],
)
def test_damaged_tables(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match="--source_path") as error:
        datasets.select("table", str(tmp_path / "a.csv"))
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_tables_of_any_editor(tmp_path, encoding):
    path = Path(written(tmp_path, changed(class_name="Käfer")))
    text = path.read_text(encoding="utf-8-sig")
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_bytes((mark + text.replace("\n", "\r\n")).encode(encoding))
    assert table.read(path).categories[0].text == "Käfer"


@pytest.mark.parametrize("kind", ["large_string", "dictionary", "binary"])
def test_columns_of_parquet(tmp_path, kind):
    types = {"large_string": pyarrow.large_string(), "binary": pyarrow.binary()}
    path = Path(written(tmp_path, changed(), "parquet"))
    rows = parquet.read_table(path)
    column = rows["path"]
    stored = column.dictionary_encode() if kind == "dictionary" else column.cast(types[kind])
    parquet.write_table(rows.set_column(0, "path", stored), path)
    assert names(datasets.select("table", str(path)).training)[0] == "1_0.jpg"


@pytest.mark.parametrize("oriented", [True, False])
def test_boxes_are_held_against_the_image_as_it_is_shown(tmp_path, caplog, oriented):
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = changed(box="10 20 30 59")
    path = written(tmp_path, rows)
    for row in rows:
        Image.new("RGB", (60, 40)).save(tmp_path / row["path"], exif=exif)
    split = datasets.select("table", path).testing
    shown = datasets.shown(split, oriented=oriented)
    assert shown.boxes[0].tolist() == [10, 20, 30, 59 if oriented else 40]
    assert shown.image(0).size == (20, 39 if oriented else 20)
    assert ("4 boxes reach beyond" in caplog.text) != oriented
    outside = replace(split, boxes=split.boxes + [45, 0, 45, 0])
    if oriented:
        with pytest.raises(UserError, match="box 55 20 75 59 lies outside .* 40 x 60 pixels as it"):
            datasets.shown(outside, oriented=oriented)


def test_a_pipe_is_no_table(pipe):
    with pytest.raises(UserError, match="a pipe or a device"):
        table.read(pipe)


def labelled(folder: Path, labels: list[str]) -> Path:
    """A table of an image for each label."""
    rows = [f"{number}.png,{label}\n" for number, label in enumerate(labels)]
    touch(folder, *(f"{number}.png" for number in range(len(labels))))
    (folder / "a.csv").write_text("path,label\n" + "".join(rows))
    return folder / "a.csv"


def test_labels_stay_as_they_are_written_under_a_name_with_spaces(tmp_path):
    """01 and 1 were one class behind "path, label", which was read as a column of numbers."""
    path = labelled(tmp_path, [" 01", " 1", " 1.0", " 2"])
    path.write_text(path.read_text().replace("path,label", "path, label"))
    assert [category.name for category in table.read(path).categories] == ["01", "1", "1.0", "2"]


@pytest.mark.parametrize(
    "folders, pair",
    [
        (["Cat", "cat", "b", "c"], "'Cat' and 'cat'"),
        (
            ["train/caf\u00e9", "train/a", "test/cafe\u0301", "test/b"],
            "'cafe\u0301' and 'caf\u00e9'",
        ),
        (["a", "a ", "b", "c"], "'a' and 'a '"),
        (["1", "01", "b", "c"], "'01' and '1'"),
        (["b c", "b_c", "a", "d"], "'b c' and 'b_c'"),
    ],
)
def test_folders_that_look_alike_are_told(tmp_path, caplog, folders, pair):
    folder.read(touch(tmp_path, *(f"{name}/0.png" for name in folders)))
    assert f"folders that are almost alike are different classes: {pair}." in caplog.text


def test_train_beside_eval_is_a_split(tmp_path):
    places = [f"{part}/{name}/0.png" for part in ("train", "eval") for name in (f"{part}1", "b")]
    found = folder.read(touch(tmp_path, *places))
    assert [Path(file).parts[-3] for file in found.files] == ["eval"] * 2 + ["train"] * 2
    assert found.parts.tolist() == [2, 2, 0, 0]


def test_labels_that_look_alike_are_told(tmp_path, caplog):
    alike = ["1", "01", "1.0", "a", "A", "b c", "b  c", "caf\u00e9", "cafe\u0301"]
    found = table.read(labelled(tmp_path, alike))
    assert len(found.categories) == 9 and "almost alike are different classes" in caplog.text
    for pair in ("'01' and '1' and '1.0'", "'A' and 'a'", "'b  c' and 'b c'"):
        assert pair in caplog.text
    caplog.clear()
    table.read(labelled(tmp_path, ["1", "2", "10", "a", "b-1", "b 1"]))
    assert not caplog.records


def test_cells_of_several_values_name_no_class(tmp_path):
    touch(tmp_path, "0.png", "1.png")
    for labels in ([["a"], ["b"]], [{"x": 1}, {"x": 2}]):
        parquet.write_table(
            pyarrow.table({"path": ["0.png", "1.png"], "label": labels}), tmp_path / "a.parquet"
        )
        with pytest.raises(UserError, match="the column label hold .* one text or number"):
            table.read(tmp_path / "a.parquet")


def test_columns_without_a_name_are_told_as_such(tmp_path, caplog):
    """As of an index that pandas wrote."""
    touch(tmp_path, "0.png", "1.png")
    (tmp_path / "a.csv").write_text(",path,label\n0,0.png,a\n1,1.png,b\n")
    with caplog.at_level(logging.INFO):
        table.read(tmp_path / "a.csv")
    assert "columns that are not read: one without a name." in caplog.text
