"""Names of which only some mean anything, for callers from Python; flags declare their own."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Part = TypeVar("Part")


def one_of(argument: str, name: str, names: Iterable[str]) -> str:
    """The name, where it is one of the names; raises ValueError for another."""
    known = tuple(names)
    if name in known:
        return name
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"{argument} must be one of {', '.join(known)}, not {name!r}{hint}")


def part_of(registry: Mapping[str, Part], argument: str, name: str) -> Part:
    """What is registered under the name; raises ValueError where nothing is."""
    return registry[one_of(argument, name, registry)]
