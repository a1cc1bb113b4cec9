"""A sweep file as it is written: what it says, in which line, and what is wrong with it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from utilities.documents import from_yaml
from utilities.errors import reason
from utilities.flags import abridged, nearest
from utilities.paths import require_readable, unread_yaml

DEPTH = 5  # datasets, one of them, its variants, one of them, a setting

Place = tuple[str, ...]  # the keys that lead to a value


class WrongFile(Exception):
    """All that is wrong with a sweep file, a sentence each."""

    def __init__(self, sentences: Iterable[str]):
        super().__init__(*sentences)
        self.sentences = list(sentences)


class _Mark(NamedTuple):
    """
    Attributes:
        line: counted from 1. text: of a single value, as it is typed; else empty.
    """

    line: int
    text: str


class Document:
    """The mappings of a file, and a place for what is wrong with them.

    Raises WrongFile for one that cannot be read as a mapping.
    """

    def __init__(self, path: Path):
        self.path = path
        self._wrong: dict[str, None] = {}  # in order, each once
        content, self._marks = self._read()
        self._content = self._by_text(content)

    def at(self, *place: str) -> Any:
        """The value at a place; None where there is none."""
        value: Any = self._content
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def typed(self, *place: str) -> str:
        """A single value as it is typed: YAML reads 24:00:00 as a number of seconds."""
        mark = self._marks.get(place)
        return mark.text if mark else str(self.at(*place))

    def mapping(self, *place: str) -> dict[str, Any]:
        """The mapping at a place; an empty one where there is none, or where that is wrong."""
        value = self.at(*place)
        if value is None or isinstance(value, dict):
            return value or {}
        self.wrong(f"{place[-1]} must hold lines of the form 'name: value'.", *place)
        return {}

    def require_known(self, names: Iterable[str], known: Iterable[str]) -> None:
        """Names at the top of the file that mean something."""
        known = list(known)
        for name in names:
            if name not in known:
                hint = nearest(name, known) or f"; it holds {', '.join(known)}"
                self.wrong(f"{abridged(name)} means nothing here{hint}.", name)

    def wrong(self, sentence: str, *place: str) -> None:
        """Something is wrong at a place."""
        self._wrong[f"{self._where(place)}: {sentence}"] = None

    def require_sound(self) -> None:
        if self._wrong:
            raise WrongFile(self._wrong)

    def _where(self, place: Place) -> str:
        while place and place not in self._marks:
            place = place[:-1]
        return f"{self.path}, line {self._marks[place].line}" if place else str(self.path)

    def _read(self) -> tuple[dict[Any, Any], dict[Place, _Mark]]:
        try:
            require_readable(self.path)
            text = self.path.read_bytes()
            content = from_yaml(text)
        except OSError as error:
            raise WrongFile([f"{self.path}: {unread_yaml(self.path, error)}"]) from error
        except ValueError as error:
            raise WrongFile([f"{self.path} is not valid YAML: {reason(error)}."]) from error
        if not isinstance(content, dict):
            raise WrongFile([f"{self.path} must hold lines of the form 'name: value'."])
        return content, dict(_marks(yaml.compose(text, yaml.SafeLoader), ()))

    def _by_text(self, content: dict[Any, Any], place: Place = ()) -> dict[str, Any]:
        """With texts as keys, as deep as settings lie; numbers are names, too."""
        found: dict[str, Any] = {}
        for key, value in content.items():
            if key is None or isinstance(key, bool) or not isinstance(key, str | int | float):
                self.wrong(f"YAML reads a name as {key}; write it in quotes.", *place)
                continue
            here = (*place, str(key))
            if str(key) in found:
                self.wrong(f"{key} is there twice, with quotes and without.", *here)
            is_deeper = isinstance(value, dict) and len(here) < DEPTH
            found[str(key)] = self._by_text(value, here) if is_deeper else value
        return found


def _marks(node: yaml.Node | None, place: Place) -> Iterator[tuple[Place, _Mark]]:
    """Of each key at or below a node of YAML."""
    if not isinstance(node, yaml.MappingNode) or len(place) == DEPTH:
        return
    for key, value in node.value:
        here = (*place, str(key.value))
        text = value.value if isinstance(value, yaml.ScalarNode) else ""
        yield here, _Mark(key.start_mark.line + 1, text)
        yield from _marks(value, here)
