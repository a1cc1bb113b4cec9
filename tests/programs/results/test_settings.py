"""What guides a run, in words."""

import json

import pytest

import parameters
from programs.results.settings import before_resuming, guidance_in_words

PSEUDO = "--language_pseudoclass"


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], "class names through clip"),
        (["--class_text", "a.json"], "the texts of a.json through clip"),
        ([PSEUDO], "pseudolabels of resnet50.tv_in1k through clip"),
        (
            [PSEUDO, "--language_pseudoclass_share", "0.5", "--language_model", "minilm"],
            "class names and pseudolabels of resnet50.tv_in1k through minilm",
        ),
        (["--language_control", "shuffle"], "class names through clip, shuffled between the"),
        (["--language_control", "random"], "random vectors in the place of texts (a control)"),
        (["--language_control", "onehot"], "classes that have nothing in common (a control)"),
        (["--language_model", "matrix:a.csv"], "given similarities of the classes (matrix:a.csv)"),
    ],
)
def test_what_guides_is_said_by_its_name(flags, words):
    settings, _ = parameters.examine([*flags, "--language_distill_w", "1"])
    stored = json.loads(json.dumps(parameters.stored(settings), default=str))
    assert guidance_in_words(stored).startswith(words)


def test_words_of_a_vocabulary_and_runs_from_before_a_flag():
    stored = {"language_pseudoclass": True, "language_pseudoclass_arch": "clip:a/b"}
    stored |= {"language_model": "minilm", "language_pseudoclass_vocabulary": "words.txt"}
    words = "pseudolabels of clip:a/b over the words of words.txt through minilm"
    assert guidance_in_words(stored) == words


@pytest.mark.parametrize(
    "scheduler, words", [("step", "--bs 112"), ("cosine", "--bs 112, --n_epochs 3")]
)
def test_settings_of_before_are_told_as_far_as_they_make_a_run(scheduler, words):
    given_up = {
        "bs": 112,
        "n_epochs": 3,
        "class_text": None,
        "language_pseudoclass": True,
        "no_figures": True,
    }
    facts = {"earlier_settings": [{"epochs": 2, "steps": 5, "settings": given_up}, {"steps": 1}, 7]}
    words += ", no --class_text, --language_pseudoclass"
    said = before_resuming(facts, {"scheduler": scheduler})
    assert said == [f"for 2 epochs and 5 steps by {words}"]
