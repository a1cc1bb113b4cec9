"""YAML as people write it."""

import pytest
import yaml

from utilities.documents import from_yaml


@pytest.mark.parametrize(
    "text, value",
    [
        ("a: 010", "010"),  # in YAML 1.1 it is 8
        ("a: 1:30", "1:30"),  # and this 90
        ("a: 24:00:00", "24:00:00"),
        ("a: 1:30.5", "1:30.5"),
        ("a: 0", 0),
        ("a: 0.5", 0.5),
        ("a: -10", -10),
        ("a: 0x10", "0x10"),
        ("a: 0b11", "0b11"),
        ("a: 1_000", "1_000"),
        ("a: 1_0.5", "1_0.5"),
        ("a: +5", "+5"),
        ("a: 2026-01-01", "2026-01-01"),
        ("a: 2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("a: 1.5e-3", 0.0015),
        ("a: 1.50", 1.5),
        ("a: .inf", float("inf")),
    ],
)
def test_numbers_are_those_that_are_written(text, value):
    assert from_yaml(text) == {"a": value}
    assert from_yaml(f"[{text.removeprefix('a: ')}]") == [value]


@pytest.mark.parametrize("text", ["1.50", "1.5e-3", ".5", "1.", "1.0e-05", "-.inf", "0.5", "7"])
def test_a_number_that_is_a_name_is_the_one_that_is_written(text):
    ((key, (value,)),) = from_yaml(f"{{{text}: [{text}]}}").items()
    assert str(key) == str(value) == repr(value) == f"{value}" == text
    assert float(value) == float(text.replace(".inf", "inf"))


def test_names_are_those_that_are_written():
    assert from_yaml("{010: a, 8: b}") == {"010": "a", 8: "b"}
    assert from_yaml("{0x1: a, 1: b}") == {"0x1": "a", 1: "b"}


@pytest.mark.parametrize(
    "text", ["{1: a, 1.0: b}", "{yes: a, 1: b}", "{a: , a: }", "{.5: , 0.5: }"]
)
def test_names_that_would_hide_each_other_are_refused(text):
    with pytest.raises(ValueError, match="is there twice"):
        from_yaml(text)


def test_what_a_program_writes_is_read_as_it_was():
    content = {"lr": 1e-05, "tau": [0.5, 1e20], "bs": -3, "group": "1.50"}
    content |= {"tags": ["1_000", "0x10", "010", "1e3", "2026-01-01", "+5", "yes"], "notes": None}
    read = from_yaml(yaml.safe_dump(content))
    assert read == content and all(type(tag) is str for tag in read["tags"])


def test_what_is_merged_is_no_repetition():
    assert from_yaml("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}")["y"] == {"a": 3, "b": 2}
    assert from_yaml("x: {<<: {a: 1}, =: 2}") == {"x": {"a": 1, "=": 2}}
