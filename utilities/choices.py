"""Names of which only some mean anything, for callers from Python; flags declare their own."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from utilities.errors import named

Part = TypeVar("Part")


def one_of(argument: str, name: str, names: Iterable[str]) -> str:
    """The name, where it is one of the names; raises ValueError for another."""
    known = tuple(names)
    if name in known:
        return name
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"{argument} must be one of {', '.join(known)}, not {name!r}{hint}")


def hint(unknown: Sequence[str], known: Sequence[str], there_are: str) -> str:
    """The end of a message about names that mean nothing: which is meant by a single one, or some.

    Args:
        there_are: what stands before the first of the known, such as "it has".
    """
    close = difflib.get_close_matches(unknown[0], known, n=1) if len(unknown) == 1 else []
    return f"did you mean {close[0]}?" if close else f"{there_are} {named(known)}."


def part_of(registry: Mapping[str, Part], argument: str, name: str) -> Part:
    """What is registered under the name; raises ValueError where nothing is."""
    return registry[one_of(argument, name, registry)]
