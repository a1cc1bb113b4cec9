"""YAML as people write it."""

import pytest

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
        ("a: 0x10", 16),
        ("a: 1_000", 1000),
        ("a: 1.5e-3", 0.0015),
    ],
)
def test_numbers_are_those_that_are_written(text, value):
    assert from_yaml(text) == {"a": value}
    assert from_yaml(f"[{text.removeprefix('a: ')}]") == [value]


def test_names_are_those_that_are_written():
    assert from_yaml("{010: a, 8: b}") == {"010": "a", 8: "b"}


@pytest.mark.parametrize("text", ["{1: a, 1.0: b}", "{yes: a, 1: b}", "{a: , a: }", "{0x1: , 1: }"])
def test_names_that_would_hide_each_other_are_refused(text):
    with pytest.raises(ValueError, match="is there twice"):
        from_yaml(text)


def test_what_is_merged_is_no_repetition():
    assert from_yaml("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}")["y"] == {"a": 3, "b": 2}
    assert from_yaml("x: {<<: {a: 1}, =: 2}") == {"x": {"a": 1, "=": 2}}
