"""In which settings runs differ, as far as these make a run what it is."""

import json
import shlex
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import parameters
from utilities.errors import named
from utilities.flags import Switch, entries_of, in_words

# Their values are told otherwise, or say what is measured and kept of a run, not how it is made.
PASSED_OVER = (
    "seed",
    "dataset",
    "evaluation_metrics",
    "evaltypes",
    "storage_metrics",
    "store_improvements",
    "no_train_metrics",
    "no_test_metrics",
    "no_figures",
)
SHOWN_SETTINGS = 4  # of those in which runs differ, in a sentence
GIVEN = "matrix:"  # the beginning of a language model that reads no text
# Controls that read none either, and what guides there.
CONTROLS = {
    "random": "random vectors in the place of texts (a control)",
    "onehot": "classes that have nothing in common (a control)",
}
Effective = Mapping[str, list[Any]]  # name -> entries that have an effect


def effective(stored: Mapping[str, object]) -> Effective:
    """Of the settings that a run has stored."""
    others = {name: value for name, value in stored.items() if name != "seed"}
    return _effective(json.dumps(others, default=str))


@cache  # runs of a group have the same ones but for the seed
def _effective(stored: str) -> Effective:
    made_of = parameters.effective(json.loads(stored))
    return {name: entries for name, entries in made_of.items() if name not in PASSED_OVER}


def guidance_in_words(stored: Mapping[str, object]) -> str:
    """By what a guided run of these settings was guided, as a part of a sentence."""
    model, control = str(stored.get("language_model")), stored.get("language_control")
    if control in CONTROLS:
        return CONTROLS[str(control)]
    shuffled = ", shuffled between the classes (a control)" if control == "shuffle" else ""
    if model.startswith(GIVEN):
        return f"given similarities of the classes ({model}){shuffled}"
    return f"{' and '.join(_texts(stored))} through {model}{shuffled}"


def _texts(stored: Mapping[str, object]) -> list[str]:
    share = stored.get("language_pseudoclass_share", 1)
    takes_names = isinstance(share, int | float) and share < 1
    texts = []
    if not stored.get("language_pseudoclass") or takes_names:
        file = stored.get("class_text")
        texts.append(f"the texts of {file}" if file else "class names")
    if stored.get("language_pseudoclass") and share != 0:
        vocabulary = stored.get("language_pseudoclass_vocabulary")
        words = f" over the words of {vocabulary}" if vocabulary else ""
        texts.append(f"pseudolabels of {stored.get('language_pseudoclass_arch')}{words}")
    return texts


def between(groups: Mapping[str, list[Effective]]) -> dict[str, dict[str, str]]:
    """Group -> name -> value as typed, of the settings in which the groups differ.

    "" is no effect. What only some groups make use of counts where it is not the default: a
    pseudolabel is no news where guidance is.
    """
    every = [runs for runs in groups.values() if runs]
    names = every[0][0] if every else ()
    differing = [name for name in names if _differs(name, [run for runs in every for run in runs])]
    return {
        group: {name: _of_group(name, runs) for name in differing} for group, runs in groups.items()
    }


def before_resuming(facts: Mapping[str, Any], stored: Mapping[str, object]) -> list[str]:
    """For each time that a run was resumed under other settings, how long and by which it went.

    Revisions and versions of another program are behind them.
    The number of epochs is one of them only where rates depend on it.
    """
    passed_over = PASSED_OVER if stored.get("scheduler") == "cosine" else (*PASSED_OVER, "n_epochs")
    sentences = []
    for time in facts.get("earlier_settings", ()):
        given_up = _table(time, "settings")
        stated = [_as_flag(*each) for each in given_up.items() if each[0] not in passed_over]
        stated += [f"{name} {value}" for name, value in _table(time, "program").items()]
        if stated:
            steps = f" and {time['steps']} steps" if time.get("steps") else ""
            by = named(stated, SHOWN_SETTINGS)
            sentences.append(f"for {time.get('epochs')} epochs{steps} by {by}")
    return sentences


def _table(entry: object, name: str) -> dict:
    found = entry.get(name) if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}


def _as_flag(name: str, value: object) -> str:
    if value is None or value is False:
        return f"no --{name}"
    return f"--{name}" if value is True else f"--{name} {in_words(value)}"


def within(runs: Mapping[int, Effective]) -> dict[str, dict[int, str]]:
    """Name -> seed -> value as typed, of the settings in which runs of one group differ."""
    names = next(iter(runs.values()), {})
    return {
        name: {seed: typed(run.get(name, [])) for seed, run in runs.items()}
        for name in names
        if _differs(name, runs.values())
    }


def as_flags(values: Mapping[str, str]) -> str:
    """Settings as flags on a command line; what is off or has no effect is left out."""
    words = []
    for name, value in values.items():
        is_switch = isinstance(parameters.BY_NAME.get(name), Switch)
        if value and not (is_switch and value == "false"):
            words.append(f"--{name}" if is_switch and value == "true" else f"--{name} {value}")
    return "  ".join(words)


def typed(entries: Iterable[object]) -> str:
    """Entries of a setting as they are typed."""
    return " ".join(map(_typed, entries))


def _typed(entry: object) -> str:
    if isinstance(entry, bool):
        return str(entry).lower()
    text = repr(entry).removesuffix(".0") if isinstance(entry, float) else str(entry)
    return shlex.quote(text)


def _differs(name: str, runs: Iterable[Effective]) -> bool:
    values = [run.get(name, []) for run in runs]
    used = [entries for entries in values if entries]
    is_other = any(entries != used[0] for entries in used)
    is_chosen = bool(used) and used[0] != entries_of(parameters.BY_NAME[name].initial())
    return is_other or (is_chosen and len(used) < len(values))


def _of_group(name: str, runs: Iterable[Effective]) -> str:
    return " or ".join(dict.fromkeys(typed(run.get(name, [])) for run in runs))
