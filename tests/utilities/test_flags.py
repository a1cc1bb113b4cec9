"""Declarations of flags and what follows from them, on flags of no program."""

import argparse
import copy
import math
import os

import pytest

from utilities.flags import (
    LARGEST,
    Bounds,
    Choice,
    Number,
    Place,
    Real,
    Settings,
    Switch,
    Text,
    Whole,
    above,
    abridged,
    at_least,
    in_block,
    needs_above_zero,
    needs_off,
    needs_on,
    needs_one_of,
    needs_other_than,
    notices,
    read_command_line,
    read_settings_file,
    read_stored,
    table,
    within,
)

FLAGS = (
    Whole("size", 8, "Size.", at_least(2), aliases=("length",)),
    Real("rate", 0.5, "Rate.", above(0, at_most=1)),
    Whole("steps", (1, 2), "Steps.", at_least(-5)),
    Switch("quick", "Quick."),
    Choice(
        "colour",
        "red",
        "Colour.",
        {"red": "warm", "blue": "cold", "hex:<code>": "any"},
        patterns={"<code>": r"[0-9a-f]+"},
    ),
    Text("title", "untitled", "Title.", check=str.isalpha, form="letters"),
    Place("source", None, "Source.", existing="file"),
    Place("target", "~/target", "Target."),
    Text("secret", "", "Secret.", stored=False, secret=True),
)


# A line that stands for a list of a thousand million entries.
LISTS = [f"&a{step} [{', '.join([f'*a{step - 1}'] * 10)}]" for step in range(1, 10)]
BOMB = f"size: [&a0 [x], {', '.join(LISTS)}]"


def read(*words: str) -> tuple[dict, list[str]]:
    return read_command_line(FLAGS, words)


def settings_with(given: dict) -> Settings:
    return Settings({flag.name: flag.initial() for flag in FLAGS} | given, given)


def file_with(tmp_path, text: str | bytes) -> str:
    path = tmp_path / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


# Declarations


@pytest.mark.parametrize("kind", [Whole, Real])
def test_a_number_without_bounds_cannot_be_declared(kind):
    with pytest.raises(TypeError, match="bounds"):
        kind("size", 1, "Size.")
    with pytest.raises(TypeError, match="bounds"):
        kind("size", 1, "Size.", None)


@pytest.mark.parametrize("low, high", [(0, math.inf), (-math.inf, 0), (math.nan, 1), (1, 1)])
def test_bounds_are_two_finite_numbers(low, high):
    with pytest.raises(ValueError, match="bounds"):
        Bounds(low, high)


def test_a_default_lies_within_its_bounds():
    with pytest.raises(ValueError, match="at least 2"):
        Whole("size", (4, 1), "Size.", at_least(2))


@pytest.mark.parametrize(
    "bounds, inside, outside, words",
    [
        (
            at_least(1),
            [1, LARGEST],
            {0: "at least 1", LARGEST + 1: f"at most {LARGEST}"},
            "at least 1",
        ),
        (above(0), [1e-9], {0: "above 0", -1: "above 0"}, "above 0"),
        (within(0, 1), [0, 1], {-0.1: "at least 0", 1.1: "at most 1"}, "0 to 1"),
        (at_least(0, below=1), [0, 0.99], {1: "below 1"}, "at least 0, below 1"),
        (above(0, at_most=1), [1], {0: "above 0", 2: "at most 1"}, "above 0, at most 1"),
        (Bounds(-LARGEST), [-3, 3], {}, "any number"),
    ],
)
def test_bounds_say_which_rule_is_broken(bounds, inside, outside, words):
    assert str(bounds) == words
    assert all(bounds.broken(value) is None for value in inside)
    assert {value: bounds.broken(value) for value in outside} == outside


def test_defaults_are_not_shared():
    steps = FLAGS[2]
    steps.initial().append(3)
    assert steps.initial() == [1, 2]


def test_what_flags_have_in_common_comes_first():
    first, second = needs_on("quick"), needs_above_zero("size")
    (flag,) = in_block(
        "topic", "group", Real("x", 1, "X.", above(0), needs=(second,)), needs=(first,), owner="x"
    )
    assert (flag.topic, flag.group, flag.owner, flag.needs) == (
        "topic",
        "group",
        "x",
        (first, second),
    )


# Reading


@pytest.mark.parametrize(
    "words, values",
    [
        (["--size", "4"], {"size": 4}),
        (["--size=4"], {"size": 4}),
        (["--length", "4"], {"size": 4}),
        (["--size", "4", "--length=5"], {"size": 5}),
        (["--steps", "-1", "3", "--quick"], {"steps": [-1, 3], "quick": True}),
        (["--rate", "1e-3"], {"rate": 1e-3}),
        (["--rate", "-1e-3"], {"rate": -1e-3}),
        (["--title="], {"title": ""}),
        (["--title", "a=b"], {"title": "a=b"}),
        (["--title=--quick"], {"title": "--quick"}),
        ([], {}),
    ],
)
def test_the_command_line_is_read(words, values):
    assert read(*words) == (values, [])


@pytest.mark.parametrize(
    "words, problem",
    [
        (["--sise", "4"], "--sise is not known (did you mean --size?)."),
        (["--sise=4"], "--sise is not known (did you mean --size?)."),
        (["-size", "4"], "-size is not known (did you mean --size?)."),
        (["--xyz"], "--xyz is not known."),
        (["--"], "-- is not known."),
        (["--size"], "--size needs a value: a whole number."),
        (["--steps", "--quick"], "--steps needs a value: a list, each item a whole number."),
        (["--size", "4", "5"], "--size takes one value, not 4 5."),
        (["--size", "many"], "--size many is not a whole number."),
        (["--size", "4.0"], "--size 4.0 is not a whole number."),
        (["--size", "inf"], "--size inf is not a whole number."),
        (["--size="], "--size '' is not a whole number."),
        (["--rate", "half"], "--rate half is not a number."),
        (["--steps", "1", "x"], "--steps x is not a whole number."),
        (["--quick", "yes"], "--quick takes no value (given: yes)."),
        (["--quick=no"], "--quick takes no value (given: no)."),
        (["stray", "--quick"], "stray belongs to no flag; flags begin with two hyphens."),
    ],
)
def test_each_wrong_word_is_a_sentence(words, problem):
    assert read(*words)[1] == [problem]


def test_all_wrong_words_are_told_and_the_others_are_read():
    values, problems = read("--sise", "4", "--rate", "x", "--length", "5", "--steps")
    assert values == {"size": 5} and len(problems) == 3


def test_long_values_are_abridged():
    (problem,) = read("--size", "9" * 5000)[1]
    assert len(problem) < 200


@pytest.mark.parametrize("length", [80, 81, 300])
def test_of_a_long_value_both_ends_are_shown(length):
    path = f"/data/{'x' * (length - 18)}/weights.pth"
    shown = abridged(path)
    assert len(shown) == 80 and ("…" in shown) == (length > 80)
    assert shown.startswith("/data/x") and shown.endswith("x/weights.pth")


@pytest.mark.parametrize(
    "text, values",
    [
        ("size: 4", {"size": 4}),
        (b"\xef\xbb\xbfsize: 4", {"size": 4}),
        ("size: 4.0", {"size": 4}),
        ("rate: 1", {"rate": 1.0}),
        ("rate: 1e-3", {"rate": 1e-3}),  # a text to YAML, which wants 1.0e-3
        ("steps: 3", {"steps": [3]}),
        ("steps: [3, 4]", {"steps": [3, 4]}),
        ("quick: true", {"quick": True}),
        ("title: 5", {"title": "5"}),
        ("title: 2024-01-02", {"title": "2024-01-02"}),
        ("source: null", {"source": None}),
        ("", {}),
        ("# nothing is set\n---\n", {}),
        ("size: 4".encode("utf-16"), {"size": 4}),
        ("steps: &both [3, 4]", {"steps": [3, 4]}),
    ],
)
def test_a_file_is_read(tmp_path, text, values):
    assert read_settings_file(file_with(tmp_path, text), FLAGS) == (values, [])


@pytest.mark.parametrize(
    "text, part",
    [
        ("sise: 4", "there is no setting 'sise' (did you mean size?)"),
        ("4: size", "there is no setting 4"),
        ("length: 4", "there is no setting 'length'"),
        ("secret: x", "there is no setting 'secret'"),
        ("size: many", "size: 'many' is not a whole number"),
        ("size: 2.5", "size: 2.5 is not a whole number"),
        ("size: .inf", "size: .inf is not a whole number"),
        ("size: .nan", "size: .nan is not a whole number"),
        ("size: true", "size: True is not a whole number"),
        ("size: null", "size: None is not a whole number"),
        ("rate: true", "rate: True is not a number"),
        ("rate: [1]", "rate: [1] is not a number"),
        ("rate: 0x" + "f" * 6000, "is not a number"),
        ("steps: []", "steps: [] is not a list, each item a whole number"),
        ("steps: [1, [2]]", "a list, each item a whole number"),
        ("quick: 1", "quick: 1 is not true or false"),
        ("quick: null", "is not true or false"),
        ("title: [a]", "is not a text"),
        ("title: true", "is not a text"),
        ("size: " + "9" * 5000, "is not valid YAML"),
        ("size: 2024-99-99", "size: '2024-99-99' is not a whole number"),
        ("size: 0x10", "size: '0x10' is not a whole number"),
        ("size: 1_000", "size: '1_000' is not a whole number"),
        ("rate: 1_0.5", "rate: '1_0.5' is not a number"),
        ("- size", "flag: value"),
        ("size: [", "settings.yaml is not valid YAML: line 1: while parsing a flow"),
        ("rate: 1\nsize: b: c", "is not valid YAML: line 2: mapping values are not allowed"),
        ("rate: 1\nsize: 3\nrate: 1", "is not valid YAML: line 3: rate is there twice"),
        ("size: {a: 1, a: 1}", "is not valid YAML: line 1: a is there twice"),
        ("? [size]\n: 1", "is not valid YAML: line 1"),
        ("[" * 5000, "is not valid YAML: it is nested too deeply"),
        ("size: " + "[" * 200_000, "is not valid YAML: it is nested too deeply"),
        ("title: a\0b", "is not valid YAML: position 8"),
        ('rate: 1\ntitle: "a\\ud800"', "is not valid YAML: line 2: \\ud800 is half a character"),
        ('"\\ud800": a', "\\ud800 is half a character"),
        ("size: !!timestamp x", "size: 'x' is not a whole number"),
        ("size: !!int x", "is not valid YAML: line 1"),
        ("size: !!python/name:os.system", "is not valid YAML: line 1"),
        ("size: &all [*all]", "]]] is not a whole number"),
        (BOMB, "is not a whole number"),
        (b"\xff\xfe\x00size", "is not valid YAML"),
    ],
)
def test_a_wrong_file_is_a_sentence_each(tmp_path, text, part):
    values, problems = read_settings_file(file_with(tmp_path, text), FLAGS)
    assert not values
    (problem,) = problems
    assert part in problem and len(problem) < 600 and "\n" not in problem


def test_a_text_of_digits_is_the_one_that_is_written(tmp_path):
    file = file_with(tmp_path, "target: 1.50\ntitle: 0x10\nrate: 0.50\nsize: +5")
    values, problems = read_settings_file(file, FLAGS)
    assert values == {"target": "1.50", "title": "0x10", "rate": 0.5, "size": 5} and not problems
    assert type(values["rate"]) is float


def test_a_file_that_is_not_there(tmp_path):
    def problem(name):
        return read_settings_file(str(tmp_path / name), FLAGS)[1][0]

    assert problem("") == f"--config {tmp_path}: it is a folder, not a file."
    (tmp_path / "args.yaml").touch()
    assert problem("arg.yaml").endswith("there is no such file; did you mean args.yaml?")
    assert problem("args.yaml/x").endswith(f"the path leads no further than {tmp_path}/args.yaml.")
    assert problem("").endswith(f"not a file; is {tmp_path}/args.yaml meant?")
    os.mkfifo(tmp_path / "pipe")
    assert problem("pipe").endswith("it cannot be read (It is a pipe or a device, not a file).")


def test_stored_settings_of_flags_that_are_gone_are_passed_over():
    assert read_stored({"size": 4, "gone": 1}, FLAGS) == ({"size": 4}, [])
    assert "is not a whole number" in read_stored({"size": "x"}, FLAGS)[1][0]


def test_a_tilde_is_the_home_folder_but_in_a_default(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    values, _ = read("--source", "~/a", "--target=~/b")
    assert values == {"source": "/somewhere/a", "target": "/somewhere/b"}
    assert read("--target", "~/target")[0] == {"target": "~/target"}


# Validation


@pytest.mark.parametrize(
    "name, value, problem",
    [
        ("size", 1, "--size must be at least 2, not 1."),
        ("size", 10**400, f"--size must be at most {LARGEST}, not 1000"),
        ("rate", math.nan, "--rate must be a finite number, not nan."),
        ("rate", -math.inf, "--rate must be a finite number, not -inf."),
        ("rate", 0.0, "--rate must be above 0, not 0.0."),
        ("steps", [1, -6], "--steps must be at least -5, not -6."),
        (
            "colour",
            "rd",
            "--colour rd is not known (did you mean red?); choose from: red, blue, hex:<code>.",
        ),
        ("colour", "hex:", "--colour hex: is not known"),
        ("title", "a1", "--title 'a1' is not letters."),
        ("title", "a\0", "holds a character that no text has"),
        ("source", "nowhere", "--source nowhere: there is no such file."),
    ],
)
def test_values_are_held_against_the_declaration(name, value, problem):
    (flag,) = (flag for flag in FLAGS if flag.name == name)
    (said,) = flag.problems(value)
    assert said.startswith(problem) or problem in said


def test_values_that_are_right_bring_no_problem():
    right = {"size": 2, "rate": 1.0, "steps": [-5], "colour": "hex:ff", "source": __file__}
    assert not [
        problem
        for flag in FLAGS
        if flag.name in right
        for problem in flag.problems(right[flag.name])
    ]
    assert not FLAGS[6].problems(None)


# What is said


def test_settings_know_what_was_given_and_hold_only_values():
    settings = Settings({"size": 4}, given=["size"])
    assert vars(settings) == {"size": 4} and settings.given == {"size"}
    assert copy.deepcopy(settings).given == {"size"}
    assert isinstance(settings, argparse.Namespace)


@pytest.mark.parametrize(
    "need, idle, effective, because",
    [
        (needs_on("quick"), {}, {"quick": True}, "--quick is not given"),
        (needs_off("quick"), {"quick": True}, {}, "--quick is given"),
        (needs_above_zero("size"), {"size": 0}, {}, "--size is 0"),
        (needs_one_of("colour", "blue"), {}, {"colour": "blue"}, "--colour is red"),
        (needs_other_than("colour", "red", "blue"), {}, {"colour": "hex:0"}, "--colour is red"),
    ],
)
def test_a_need_that_does_not_hold_is_a_notice(need, idle, effective, because):
    flag = Text("title", "untitled", "Title.", needs=(need,))
    given = {"title": "a"}
    sentence = f"--title a has no effect, because {because}."
    assert notices([flag], settings_with(given | idle)) == [sentence]
    assert notices([flag], settings_with(given | effective)) == []
    assert notices([flag], settings_with(idle)) == []  # it was not given


def test_entries_of_a_list_are_told_one_by_one():
    need = needs_one_of("colour", "red")._replace(
        holds=lambda settings, step: step < settings.size, because="--size is {size}"
    )
    flag = Whole("steps", (1,), "Steps.", at_least(0), needs=(need,))
    assert notices([flag], settings_with({"steps": [3, 9, 10]})) == [
        "--steps 9 10 has no effect, because --size is 8."
    ]


def test_a_secret_is_never_shown():
    flag = Text("secret", "", "Secret.", secret=True, needs=(needs_on("quick"),))
    assert notices([flag], settings_with({"secret": "xyz"})) == [
        "--secret is ignored, because --quick is not given."
    ]


def test_help_says_bounds_choices_needs_and_default():
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("all")
    for flag in FLAGS:
        flag.add_to(group)
    shown = " ".join(parser.format_help().split())
    for part in (
        "--size N, --length N Size. At least 2. Default: 8.",
        "red: warm",
        "--quick Quick.",
    ):
        assert part in shown
    assert parser.parse_args(["--length", "3"]).size == 3
    needing = Real("x", 1, "100 % of X.", above(0), needs=(needs_on("quick"), needs_off("title")))
    needing.add_to(group)
    assert "100 % of X. Above 0. Needs --quick, no --title. Default: 1." in " ".join(
        parser.format_help().split()
    )


def test_the_table_has_a_row_for_each_flag():
    flag = Choice("mode", "a", "Which <b>.", {"a": "one | two"}, needs=(needs_on("quick"),))
    assert table([flag]).splitlines()[2] == (
        r"| `--mode` | `a` | a: one \| two | Which \<b>. | --quick |"
    )
    rows = table(FLAGS).splitlines()[2:]
    assert len(rows) == len(FLAGS) and {row.count(" |") for row in rows} == {5}


def test_sentences_on_choices_are_parts_of_one():
    flag = Choice("mode", "a", "Which.", {"a": "The first.", "b": "The other."})
    assert flag.takes == "a: The first; b: The other"


def test_every_number_is_one_of_two_kinds():
    assert {kind.kind for kind in Number.__subclasses__()} == {int, float}


@pytest.mark.parametrize("text", ["!!binary aGVsbG8=", "!!set {a, b}", "!!omap [a: 1]"])
def test_kinds_of_yaml_that_are_no_text_are_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(f"target: {text}\n")
    _, problems = read_settings_file(str(tmp_path / "a.yaml"), FLAGS)
    assert len(problems) == 1 and "is not" in problems[0]
