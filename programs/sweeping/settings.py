"""Settings of main.py as a sweep file states them, and as a command line."""

import shlex
from collections.abc import Mapping
from typing import Any

import parameters
from programs.sweeping.document import Document
from utilities.flags import (
    abridged,
    entries_of,
    nearest,
    read_command_line,
    read_settings_file,
)

# Flags that a sweep gives to its runs itself, and how.
OWN = {
    "group": "the name of a variant is the group of its runs",
    "group_by": "the name of a variant is the group of its runs",
    "savename": "a run is named by its variant and seed",
    "completed": "finished runs are left out by themselves",
    "resume": "interrupted runs go on by themselves",
    "gpu": "each run gets a GPU of its own; --gpus says which there are",
    "evaluate_only": "the runs of a sweep train",
    "list": "the runs of a sweep train",
    "version": "the runs of a sweep train",
}
KNOWN = {name: flag for flag in parameters.FLAGS for name in (flag.name, *flag.aliases)}


def read(document: Document, *place: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Values by the names of their flags, of the mapping at a place, or of flags as one types them.

    None stands for the default. What is wrong is told to the document.
    """
    content = document.at(*place)
    if isinstance(content, str):
        return _from_flags(document, content, *place)
    values: dict[str, Any] = {}
    for name, value in document.mapping(*place).items():
        if name not in without and _is_settable(document, name, *place):
            values |= _value(document, name, value, *place)
    return values


def _value(document: Document, name: str, value: object, *place: str) -> dict[str, Any]:
    flag = KNOWN[name]
    try:
        return {flag.name: None if value is None else flag.read(value)}
    except (TypeError, ValueError, OverflowError):
        document.wrong(f"{name}: {abridged(value, of=repr)} is not {flag.expected}.", *place, name)
        return {}


def _from_flags(document: Document, text: str, *place: str) -> dict[str, Any]:
    try:
        values, problems = read_command_line(parameters.FLAGS, shlex.split(text))
    except ValueError as error:
        values, problems = {}, [f"these are no flags of a command line: {error}."]
    for problem in problems:
        document.wrong(problem, *place)
    return {name: value for name, value in values.items() if _is_settable(document, name, *place)}


def _is_settable(document: Document, name: str, *place: str) -> bool:
    if name not in KNOWN:
        hint = nearest(name, KNOWN)
        document.wrong(f"there is no setting {abridged(name)}{hint}.", *place, name)
        return False
    if why := OWN.get(KNOWN[name].name):
        document.wrong(f"{name} is not set in a sweep: {why}.", *place, name)
        return False
    return True


def over_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with those of their `--config` file written out where that has to be.

    On a command line nothing turns a switch of the file off, or takes a value of it back.
    """
    unset = [name for name, value in values.items() if _is_unset(value)]
    if values.get("config") is None or not unset:
        return dict(values)
    file, problems = read_settings_file(str(values["config"]), parameters.FLAGS)
    if problems or not any(not _is_unset(file.get(name)) for name in unset):
        return dict(values)
    beneath = {name: value for name, value in file.items() if name not in OWN}
    return {name: value for name, value in {**beneath, **values}.items() if name != "config"}


def as_words(values: Mapping[str, Any]) -> list[str]:
    """The command line that states the values."""
    return [word for name, value in values.items() for word in _words(name, value)]


def _words(name: str, value: object) -> list[str]:
    if _is_unset(value):
        return []
    if value is True:
        return [f"--{name}"]
    texts = [str(entry) for entry in entries_of(value)]
    if len(texts) == 1 and (texts[0].startswith("-") or not texts[0]):
        return [f"--{name}={texts[0]}"]
    return [f"--{name}", *texts]


def _is_unset(value: object) -> bool:
    return value is None or value is False
