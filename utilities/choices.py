"""Names of which only some mean anything, for callers from Python; flags declare their own."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TypeVar

from utilities.errors import named
from utilities.flags import nearest_of

Part = TypeVar("Part")


def one_of(argument: str, name: str, names: Iterable[str]) -> str:
    """The name, where it is one of the names; raises ValueError for another."""
    known = tuple(names)
    if name in known:
        return name
    close = nearest_of(str(name), known)
    meant = f" (did you mean {close!r}?)" if close else ""
    raise ValueError(f"{argument} must be one of {', '.join(known)}, not {name!r}{meant}")


def hint(unknown: Sequence[str], known: Sequence[str], there_are: str) -> str:
    """The end of a message about names that mean nothing: which is meant by a single one, or some.

    Args:
        there_are: what stands before the first of the known, such as "it has".
    """
    close = nearest_of(unknown[0], known) if len(unknown) == 1 else None
    return f"did you mean {close}?" if close else f"{there_are} {named(known)}."


def called_twice(given: Container[str], things: Sequence[Iterable[str]]) -> list[tuple[str, ...]]:
    """The names of each thing that is given by several that no other thing has."""
    bearers = Counter(name for names in things for name in set(names))
    own = [
        tuple(name for name in dict.fromkeys(names) if name in given and bearers[name] == 1)
        for names in things
    ]
    return [names for names in own if len(names) > 1]


def ambiguous(given: Container[str], things: Sequence[Sequence[str]]) -> str | None:
    """What is wrong with a name that is given and may mean two things, as the end of a sentence.

    It is the first name of one, and a further one of another that is not given by its first.
    """
    alone = {own for own, *further in things if own not in further}
    for own, *further in things:
        if own in given:
            continue
        for name in further:
            if name in given and name in alone:
                return f"{name!r} names one class and is the text of {own!r}; write {own!r} there."
    return None


def part_of(registry: Mapping[str, Part], argument: str, name: str) -> Part:
    """What is registered under the name; raises ValueError where nothing is."""
    return registry[one_of(argument, name, registry)]
