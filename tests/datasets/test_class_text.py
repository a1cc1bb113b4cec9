"""Texts of classes from a file."""

import json

import pytest

import datasets
from datasets import class_text
from utilities.errors import UserError
from utilities.rows import Row, as_csv


@pytest.fixture
def source(tmp_path) -> str:
    for number, name in enumerate(
        ["Black_footed_Albatross", "Crested_Auklet", "Gray_Catbird", "Eastern_Towhee"], 1
    ):
        (tmp_path / "birds" / "images" / f"{number:03}.{name}").mkdir(parents=True)
        (tmp_path / "birds" / "images" / f"{number:03}.{name}" / "0.jpg").write_bytes(b"")
    return str(tmp_path)


def select(source: str, path):
    return datasets.select("birds", source, class_texts=str(path))


@pytest.mark.parametrize(
    "name, content",
    [
        (
            "a.json",
            json.dumps(
                {
                    "001.Black_footed_Albatross": ["a large seabird", "black feet"],
                    "Crested Auklet": "a small seabird",
                    "Gray Catbird": "never trained on",
                }
            ),
        ),
        (
            "a.CSV",
            '\ufeffclass,text,note\n001.Black_footed_Albatross,"a large\nseabird",x\n'
            "Crested Auklet,a small seabird,\n001.Black_footed_Albatross,black feet,y\n",
        ),
    ],
)
def test_texts_by_folder_name_or_readable_name(source, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    splits = select(source, tmp_path / name)
    assert splits.training.captions == [
        ("a large\nseabird" if name.endswith("CSV") else "a large seabird", "black feet"),
        ("a small seabird",),
    ]
    assert splits.training.class_texts == ["Black footed Albatross", "Crested Auklet"]


def test_classes_that_keep_their_names_beside_texts_are_told(source, tmp_path, caplog):
    texts = {"Black footed Albatross": "a large seabird", "Crested Auklet": "a small one"}
    texts["Gray Catbird"] = "a grey bird"
    (tmp_path / "a.json").write_text(json.dumps(texts))
    with caplog.at_level("INFO"):
        testing = select(source, tmp_path / "a.json").testing
    assert testing.captions == [("a grey bird",), ("Eastern Towhee",)]
    assert "has no text for classes that do not train (004.Eastern_Towhee)" in caplog.text
    caplog.clear()
    (tmp_path / "a.json").write_text(json.dumps(texts | {"Eastern Towhee": "a sparrow"}))
    with caplog.at_level("INFO"):
        select(source, tmp_path / "a.json")
    assert "has no text" not in caplog.text


def test_without_a_file_the_names_are_read(source):
    assert datasets.select("birds", source).training.captions == [
        ("Black footed Albatross",),
        ("Crested Auklet",),
    ]


@pytest.mark.parametrize(
    "content, parts",
    [
        (
            {"Black footed Albatross": "x", "Crested Auklet": "y", "Eagle": "z"},
            ["no class Eagle; names of its classes are 001.Black_footed_Albatross"],
        ),
        (
            {"Black footed Albatross ": "x", " Crested Auklet": "y"},
            ["no class 'Black footed Albatross ', ' Crested Auklet'"],
        ),
        (
            {"Black footed Albatross": "x", "Crestd Auklet": "y"},
            ["no class Crestd Auklet; did you mean Crested Auklet?"],
        ),
        (
            {"Black footed Albatross": "x", "Gray Catbird": "y"},
            ["no text for the training class 002.Crested_Auklet"],
        ),
        (
            {"Black footed Albatross": "x", "Crested Auklet": "y", "002.Crested_Auklet": "z"},
            ["one class under two names, '002.Crested_Auklet' and 'Crested Auklet'"],
        ),
        ({}, ["no text for the training classes 001.Black_footed_Albatross, 002.Crested_Auklet"]),
    ],
)
def test_unknown_and_missing_classes_are_named(source, tmp_path, content, parts):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        select(source, tmp_path / "a.json")
    assert all(part in str(error.value) for part in [*parts, f"--class_text {tmp_path / 'a.json'}"])


def numbered(tmp_path) -> str:
    """A table of labels, of which the names of classes are numbers too, but others."""
    rows = [f"{label}.jpg,{label},{label + 1}" for label in range(4)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,class_name", *rows]))
    for label in range(4):
        (tmp_path / f"{label}.jpg").write_bytes(b"")
    return str(tmp_path / "table.csv")


def test_a_name_that_means_two_classes_is_refused(tmp_path):
    source = numbered(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"1": "a robin", "2": "a wren"}))
    with pytest.raises(UserError, match="a.json: '1' names one class and is the text of '0'; wri"):
        datasets.select("table", source, class_texts=str(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text(json.dumps({"0": "a robin", "1": "a wren"}))
    found = datasets.select("table", source, class_texts=str(tmp_path / "a.json")).training
    assert found.captions == [("a robin",), ("a wren",)]


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.json", "[1]"),
        ("a.json", "{"),
        ("a.json", '{"a": 1}'),
        ("a.json", '{"a": []}'),
        ("a.json", '{"a": ["x", 2]}'),
        ("a.json", '{"a": " "}'),
        ("a.json", '{"a": null}'),
        ("a.csv", "name,text\na,b\n"),
        ("a.csv", ""),
        ("a.csv", "class,text\na,\n"),
        ("a.csv", "class,text\n,b\n"),
        ("a.csv", "class,text\n ,b\n"),
        ("a.csv", "text,class\nb\n"),
        ("a.csv", 'class,text\na,"b\nc,d\n'),
        ("a.csv", 'class,text\na,"b" c\n'),
        ("a.csv", "class,text\na\n"),
        ("a.json", b"\xff\xfe\x00"),
        ("a.json", "[" * 5000),
        ("a.json", '{"a": "\\ud800"}'),
        ("a.json", '{"\\udfff": "x"}'),
        ("a.json", '{"a": "x", "a": "y"}'),
        ("a.csv", "class,text,text\na,b,c\n"),
        ("a.csv", "class,text\na,a red bird, small\n"),
        ("a.csv", 'class,text\na,"' + "x" * 200_000),
    ],
)
def test_files_of_another_form(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="--class_text .* cannot be read .*expected is"):
        class_text.read(str(tmp_path / name))


def test_a_run_s_own_table_is_read_as_it_was_meant(tmp_path):
    """Spreadsheets take some names for formulas: a mark keeps them from it."""
    rows: list[Row] = [{"class": "-a", "text": "=1+1"}, {"class": "b", "text": "'=c"}]
    (tmp_path / "class_texts.csv").write_text(as_csv(rows))
    assert class_text.read(str(tmp_path / "class_texts.csv")) == {"-a": ("=1+1",), "b": ("'=c",)}


@pytest.mark.parametrize("mark, name", [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_than_commas_are_told(tmp_path, mark, name):
    (tmp_path / "a.csv").write_text(f"class{mark}text\na{mark}a red bird, small\n")
    with pytest.raises(UserError, match=f"separated by {name}; save it with commas"):
        class_text.read(str(tmp_path / "a.csv"))
