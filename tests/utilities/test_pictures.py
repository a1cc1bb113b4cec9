"""Names in pictures."""

import logging

import pytest
from matplotlib import font_manager

from utilities import pictures
from utilities.pictures import Ruler, abbreviated, lettered, new_figure, save


@pytest.mark.parametrize(
    "texts, expected",
    [
        (["short", "shorter"], ["short", "shorter"]),
        (["0123456789abc", "x"], ["012345678…", "x"]),
        (["same beginning 1", "same beginning 2"], ["same…ing 1", "same…ing 2"]),
        (["aaaaaaaaaaXbbbbb", "aaaaaaaaaaYbbbbb"], ["aaaa…bbbbb", "aaaaa… (2)"]),
        (["same text " * 3, "same text " * 3], ["same text…", "same text…"]),
    ],
)
def test_abbreviated_names_differ_where_the_names_do(texts, expected):
    assert abbreviated(texts, 10) == expected


def test_many_long_names_stay_apart():
    texts = [f"{'a' * 50}{number}{'b' * 50}" for number in range(300)]
    short = abbreviated(texts, 20)
    assert len(set(short)) == 300 and all(len(text) <= 20 for text in short)


@pytest.mark.parametrize(
    "name, shown",
    [
        ("Ba$$in", "Ba$$in"),
        ("US$5 to US$10 x^2_a", "US$5 to US$10 x^2_a"),
        ("d\udcf6g", "d\\xf6g"),
        ("two\nlines\t", "two\\nlines\\t"),
        ("Ünïcødé, Ελληνικά", "Ünïcødé, Ελληνικά"),
        ("\U000f0000", "\\U000f0000"),
    ],
)
def test_any_name_can_be_drawn(tmp_path, name, shown, recwarn):
    with lettered([name]) as written:
        assert written[name] == shown
        figure = new_figure(2, 1)
        figure.text(0.5, 0.5, written[name])
        save(figure, tmp_path / "name.png")
    assert not list(recwarn)


def test_characters_are_looked_for_in_all_fonts(monkeypatch):
    fonts = [("Symbols", "/symbols.ttf")]
    known = {"/symbols.ttf": frozenset({0x72D7})}
    found = pictures._characters_of
    monkeypatch.setattr(pictures, "_other_fonts", lambda: fonts)
    monkeypatch.setattr(pictures, "_characters_of", lambda path: known.get(path) or found(path))
    assert pictures._letters_of(["狗"]) == ([pictures.FONT, "Symbols"], {})


def test_fonts_of_this_machine_are_read():
    fonts = dict(pictures._other_fonts())
    assert ord("a") in pictures._characters_of(fonts[pictures.FONT])
    assert pictures._characters_of("/no/such/font.ttf") == frozenset()
    assert not any(name.startswith(pictures.BOXES) for name in fonts)
    assert font_manager.findfont(pictures.FONT) == pictures._base_font()


def test_what_no_font_has_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(pictures, "_other_fonts", list)
    pictures._tell_of.cache_clear()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            with lettered(["狗", "猫"]) as shown:
                assert list(shown.values()) == ["\\u72d7", "\\u732b"]
    assert [record.getMessage()[:45] for record in caplog.records] == [
        "No font of this machine has the characters 狗猫"
    ]


@pytest.mark.parametrize("text", ["0.93  light yellow checkered triangle", "W" * 60, "a_b-c/d"])
def test_lines_fit_their_width_and_lose_nothing(text):
    with lettered([text]):
        ruler = Ruler(7)
        lines = ruler.lines(text, 1.2)
        assert all(ruler.width(line) <= 1.2 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
