"""What a flag of the command line is: declared once, and everything else follows from that.

A declaration says name, default, help, type, bounds or choices, and what the flag depends on. From
it come reading (command line and YAML), validation, help, the tables of the documentation, and the
notice for a setting that has no effect. No flag of the program is known here, and nothing but the
standard library is imported, so that help is instant; yaml comes in where a file is read.
"""

import argparse
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from utilities.documents import from_yaml
from utilities.paths import absent, require_readable, unreachable, unread_yaml, without_home

# Single precision and the indices of tensors end not far beyond it; nothing means anything there.
LARGEST = 10**9
SHOWN_CHARACTERS = 80  # of a value in a message


class Settings(argparse.Namespace):
    """The value of each flag by its name.

    `stated` names those on the command line or in `--config`, `given` those of them that a person
    chose: the args.yaml of a finished run states everything. `typed` names those on the command
    line; of these `spelled` has the other name by which a flag was typed, `repeated` has as typed
    what was typed again with another value.
    """

    __slots__ = ("given", "repeated", "spelled", "stated", "typed")

    def __init__(
        self,
        values: Mapping[str, object],
        given: Iterable[str] = (),
        stated: Iterable[str] = (),
        typed: Iterable[str] = (),
        spelled: Mapping[str, str] | None = None,
        repeated: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(**values)
        self.given, self.stated, self.typed = map(frozenset, (given, stated, typed))
        self.spelled, self.repeated = dict(spelled or {}), dict(repeated or {})

    def as_typed(self, sentence: str) -> str:
        """The sentence with flags under the names by which they were typed."""
        for name, alias in self.spelled.items():
            sentence = re.sub(rf"--{name}\b", f"--{alias}", sentence)
        return sentence


# Bounds of numbers


@dataclass(frozen=True)
class Bounds:
    """The numbers from `low` to `high`, both finite; with `_excluded` the end itself is not one."""

    low: float
    high: float = LARGEST
    low_excluded: bool = False
    high_excluded: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"bounds go from a number to a larger one: {self.low}, {self.high}")

    def broken(self, value: float) -> str | None:
        """The rule that a finite value breaks, such as "at least 1"; None if it lies within."""
        if value < self.low or (self.low_excluded and value == self.low):
            return f"{'above' if self.low_excluded else 'at least'} {self.low}"
        if value > self.high or (self.high_excluded and value == self.high):
            return f"{'below' if self.high_excluded else 'at most'} {self.high}"
        return None

    def __str__(self) -> str:
        if not (self.low_excluded or self.high_excluded or self.high == LARGEST):
            return f"{self.low} to {self.high}"
        low = f"{'above' if self.low_excluded else 'at least'} {self.low}"
        high = f"{'below' if self.high_excluded else 'at most'} {self.high}"
        ends = [low] * (self.low > -LARGEST) + [high] * (self.high < LARGEST)
        return ", ".join(ends) or "any number"


def at_least(low: float, *, below: float | None = None) -> Bounds:
    return Bounds(low) if below is None else Bounds(low, below, high_excluded=True)


def above(low: float, *, at_most: float = LARGEST) -> Bounds:
    return Bounds(low, at_most, low_excluded=True)


def within(low: float, high: float) -> Bounds:
    return Bounds(low, high)


# What a flag depends on


class Need(NamedTuple):
    """What must hold for a flag to have an effect.

    Attributes:
        holds: of the settings and a value of the flag (each entry of a list on its own).
        words: what is needed, for help and documentation; empty where that goes without saying.
        because: why there is no effect where it does not hold; `{name}` is the value of a setting.
    """

    holds: Callable[[argparse.Namespace, Any], bool]
    words: str
    because: str


def needs_on(flag: str) -> Need:
    """A switch that must be given, or a text that must not be empty."""
    return Need(
        lambda settings, _: bool(getattr(settings, flag)), f"--{flag}", f"--{flag} is not given"
    )


def needs_off(flag: str) -> Need:
    """A switch or text that may not be given."""
    return Need(
        lambda settings, _: not getattr(settings, flag), f"no --{flag}", f"--{flag} is given"
    )


def needs_above_zero(flag: str) -> Need:
    return Need(
        lambda settings, _: getattr(settings, flag) > 0,
        f"--{flag} above 0",
        f"--{flag} is {{{flag}}}",
    )


def needs_one_of(flag: str, *values: str) -> Need:
    return Need(
        lambda settings, _: getattr(settings, flag) in values,
        f"--{flag} {_either(values)}",
        f"--{flag} is {{{flag}}}",
    )


def needs_other_than(flag: str, *values: str) -> Need:
    return Need(
        lambda settings, _: getattr(settings, flag) not in values,
        f"--{flag} other than {_either(values)}",
        f"--{flag} is {{{flag}}}",
    )


def _either(names: Sequence[str]) -> str:
    """ "a, b or c"."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


# Kinds of flags


@dataclass(frozen=True, eq=False)
class Flag:
    """A setting by the name of its flag; a tuple as default makes it take several values.

    Attributes:
        help: a sentence. needs: what must hold for it to have an effect.
        aliases: other names on the command line. stored: whether args.yaml and checkpoints hold it.
        secret: messages never show its value.
        topic, group: where help and argparse show it. owner: "loss margin" for a hyper-parameter of
            that component.
    """

    name: str
    default: Any
    help: str
    _: KW_ONLY
    needs: tuple[Need, ...] = ()
    aliases: tuple[str, ...] = ()
    stored: bool = True
    secret: bool = False
    topic: str = ""
    group: str = ""
    owner: str = ""

    noun: ClassVar[str] = "a text"
    kind: ClassVar[type] = str

    @property
    def several(self) -> bool:
        return isinstance(self.default, tuple)

    def initial(self) -> Any:
        """The default as a value that nothing else shares."""
        return list(self.default) if self.several else self.default

    def read(self, value: object) -> object:
        """A value of YAML or of a checkpoint in the flag's type; raises ValueError for another."""
        if value is None and self.default is None:
            return None
        if not self.several:
            return self.read_entry(value)
        entries = value if isinstance(value, list) else [value]
        if not entries and self.default:
            raise ValueError("an empty list")
        return [self.read_entry(entry) for entry in entries]

    def read_texts(self, texts: Sequence[str]) -> object:
        """The words behind the flag in its type; raises ValueError with a sentence."""
        if not texts:
            raise ValueError(f"--{self.name} needs a value: {self.expected}.")
        if len(texts) > 1 and not self.several:
            given = "several" if self.secret else abridged(" ".join(texts))
            raise ValueError(f"--{self.name} takes one value, not {given}.")
        entries = [self._read_text(text) for text in texts]
        return entries if self.several else entries[0]

    def read_entry(self, entry: object) -> object:
        """One value in the flag's type; raises ValueError for another."""
        if entry is None or isinstance(entry, bool | bytes | dict | list | set | tuple):
            raise ValueError("not a text")
        return str(entry)

    def problems(self, value: object) -> list[str]:
        """What is wrong with a value of the flag's type, a sentence each."""
        found = [self.problem(entry) for entry in entries_of(value)]
        return [sentence for sentence in found if sentence]

    def problem(self, entry: Any) -> str | None:
        """What is wrong with one value, as a sentence."""
        return None

    @property
    def expected(self) -> str:
        """The type in words."""
        return f"a list, each item {self.noun}" if self.several else self.noun

    @property
    def takes(self) -> str:
        """The values that the flag takes, in words; empty where help says it."""
        return ""

    def shown(self, value: object) -> str:
        """The flag with a value, as it is typed."""
        return f"--{self.name}" if self.secret else f"--{self.name} {in_words(value)}"

    def described(self) -> str:
        """The help of the flag with what it takes, what it needs, and its default."""
        takes = f"{self.takes}." if self.takes else ""
        needs = f"Needs {', '.join(self.needed())}." if self.needed() else ""
        default = f"Default: {in_words(self.initial())}." if self._has_default() else ""
        return " ".join(part for part in (self.help, takes, needs, default) if part)

    def effective(self, value: object, settings: Settings) -> list[Any]:
        """The entries of a value of the flag that have an effect beside the other settings."""
        return [
            entry
            for entry in entries_of(value)
            if all(need.holds(settings, entry) for need in self.needs)
        ]

    def needed(self) -> list[str]:
        """What the flag needs to have an effect, in words."""
        return [need.words for need in self.needs if need.words]

    def add_to(self, group: argparse._ArgumentGroup) -> None:
        """Show the flag in a group of an argparse parser."""
        group.add_argument(
            *self._spellings(),
            type=self.kind,
            nargs="+" if self.several else None,
            default=self.initial(),
            metavar=self._metavar(),
            help=self.described().replace("%", "%%"),
        )

    def _spellings(self) -> list[str]:
        return [f"--{name}" for name in (self.name, *self.aliases)]

    def _metavar(self) -> str:
        return "TEXT"

    def _has_default(self) -> bool:
        return self.default not in (None, ())

    def _read_text(self, text: str) -> object:
        try:
            return self.read_entry(text)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"--{self.name} {abridged(text)} is not {self.noun}.") from error


@dataclass(frozen=True, eq=False)
class Number(Flag):
    """A number, which cannot be declared without bounds."""

    bounds: Bounds

    def __post_init__(self) -> None:
        if not isinstance(self.bounds, Bounds):
            raise TypeError(f"--{self.name}: a number is declared with its bounds.")
        if problems := self.problems(self.initial()):
            raise ValueError(f"the default breaks its own bounds: {problems[0]}")

    def read_entry(self, entry: object) -> int | float:
        if isinstance(entry, bool) or not isinstance(entry, int | float | str):
            raise ValueError("not a number")
        if isinstance(entry, str) and "_" in entry:  # in which Python sees thousands
            raise ValueError("no digits alone")
        return self.kind(entry)

    def problem(self, entry: Any) -> str | None:
        if isinstance(entry, float) and not math.isfinite(entry):
            return f"--{self.name} must be a finite number, not {entry}."
        rule = self.bounds.broken(entry)
        return f"--{self.name} must be {rule}, not {abridged(entry)}." if rule else None

    @property
    def takes(self) -> str:
        words = str(self.bounds)
        return words[0].upper() + words[1:]

    def _metavar(self) -> str:
        return "N" if self.kind is int else "X"


class Whole(Number):
    """A whole number."""

    noun: ClassVar[str] = "a whole number"
    kind: ClassVar[type] = int

    def read_entry(self, entry: object) -> int | float:
        whole = super().read_entry(entry)
        if isinstance(entry, float) and whole != entry:
            raise ValueError("not whole")
        return whole


class Real(Number):
    """A number in double precision."""

    noun: ClassVar[str] = "a number"
    kind: ClassVar[type] = float


@dataclass(frozen=True, eq=False)
class Switch(Flag):
    """Off, unless it is given."""

    default: bool = field(default=False, init=False)
    help: str

    noun: ClassVar[str] = "true or false"

    def read_entry(self, entry: object) -> bool:
        if not isinstance(entry, bool):
            raise ValueError("neither true nor false")
        return entry

    def read_texts(self, texts: Sequence[str]) -> bool:
        if texts:
            raise ValueError(f"--{self.name} takes no value (given: {abridged(' '.join(texts))}).")
        return True

    def shown(self, value: object) -> str:
        return f"--{self.name}"

    def add_to(self, group: argparse._ArgumentGroup) -> None:
        text = self.described().replace("%", "%%")
        group.add_argument(*self._spellings(), action="store_true", help=text)

    def _has_default(self) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class Choice(Flag):
    """One of some names, each with a line on what it stands for.

    Attributes:
        choices: name -> line. patterns: regular expressions of what stands for a part of such a
            name, as {"<ClassName>": r"\\w+"} for `pml:<ClassName>`.
        listed: help gives the names alone, because `--list` has the lines.
        legend: what the parts of names mean.
    """

    choices: Mapping[str, str]
    _: KW_ONLY
    patterns: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False
    legend: str = ""

    def names(self) -> tuple[str, ...]:
        """Those names that stand for themselves."""
        return tuple(name for name in self.choices if self._as_expression(name) == re.escape(name))

    def problem(self, entry: Any) -> str | None:
        if entry in self.names() or any(
            re.fullmatch(self._as_expression(name), entry) for name in self.choices
        ):
            return None
        known = f"{', '.join(self.choices)}{self.legend and f' ({self.legend})'}"
        hint = nearest(entry, self.choices)
        return f"--{self.name} {abridged(entry)} is not known{hint}; choose from: {known}."

    @property
    def takes(self) -> str:
        if self.listed:
            return f"One of {', '.join(self.choices)}{self.legend and f' ({self.legend})'}"
        lines = {name: line.removesuffix(".") for name, line in self.choices.items()}
        return "; ".join(f"{name}: {line}" for name, line in lines.items())

    def _metavar(self) -> str:
        return "NAME"

    def _as_expression(self, name: str) -> str:
        expression = re.escape(name)
        for part, pattern in self.patterns.items():
            expression = expression.replace(re.escape(part), pattern)
        return expression


@dataclass(frozen=True, eq=False)
class Text(Flag):
    """A text of any or of one form.

    Attributes:
        metavar: stands for the value in help. check: whether a text has the form that `form` words.
    """

    _: KW_ONLY
    metavar: str = "TEXT"
    check: Callable[[str], object] | None = None
    form: str = ""

    def problem(self, entry: Any) -> str | None:
        if "\0" in entry:
            shown = self.shown(repr(entry))
            return f"{shown} holds a character that no text has."
        if self.check and not self.check(entry):
            return f"--{self.name} {abridged(repr(entry))} is not {self.form}."
        return None

    def _metavar(self) -> str:
        return self.metavar


@dataclass(frozen=True, eq=False)
class Place(Text):
    """A file or folder; `~` at its beginning is the home folder of who runs the program.

    The default stays as it is, so that stored settings do not hold somebody's home folder.

    Attributes:
        existing: "file" or "file or folder" where there must be one before anything begins.
        remote: the beginning of what lies elsewhere, and is looked for when it is needed.
    """

    _: KW_ONLY
    metavar: str = "PATH"
    existing: str = ""
    remote: str = ""

    noun: ClassVar[str] = "a path"

    def read_entry(self, entry: object) -> str:
        path = str(super().read_entry(entry))
        return path if path == self.default else os.path.expanduser(path)

    def problem(self, entry: Any) -> str | None:
        if not entry:
            return f"--{self.name} is empty; give a path, or leave it out."
        if self.remote and entry.startswith(self.remote):
            return super().problem(entry)
        if entry.startswith("~") and entry != self.default:
            return f"--{self.name} {without_home(entry)}"
        if why := unreachable(entry):
            return f"--{self.name} {abridged(entry)}: {why}."
        exists = {"file": os.path.isfile, "file or folder": os.path.exists}.get(self.existing)
        if exists and not exists(entry):
            return f"--{self.name} {abridged(entry)}: {absent(entry, self.existing)}"
        return super().problem(entry)


def in_block(
    topic: str, group: str, *flags: Flag, needs: tuple[Need, ...] = (), owner: str = ""
) -> tuple[Flag, ...]:
    """The flags with what they have in common, what they all need first."""
    return tuple(
        replace(flag, topic=topic, group=group, owner=owner, needs=(*needs, *flag.needs))
        for flag in flags
    )


# Reading


def read_command_line(
    flags: Iterable[Flag], words: Sequence[str]
) -> tuple[dict[str, object], list[str]]:
    """Values by name of the flags that are there, and a sentence for each that is wrong."""
    known = {spelling: flag for flag in flags for spelling in (flag.name, *flag.aliases)}
    values: dict[str, object] = {}
    problems = []
    for spelling, texts in _split_by_flags(words):
        if spelling is None:
            stray = abridged(" ".join(texts))
            problems.append(f"{stray} belongs to no flag; flags begin with two hyphens.")
        elif (flag := known.get(spelling.removeprefix("--"))) and spelling.startswith("--"):
            try:
                values[flag.name] = flag.read_texts(texts)
            except ValueError as error:
                problems.append(str(error))
        else:
            hint = nearest(spelling, [f"--{name}" for name in known])
            problems.append(f"{abridged(spelling)} is not known{hint}.")
    return values, problems


def spellings(flags: Iterable[Flag], words: Sequence[str]) -> dict[str, str]:
    """Name -> other name of the flags that are there under it."""
    aliases = {f"--{alias}": flag.name for flag in flags for alias in flag.aliases}
    typed = [spelling for spelling, _ in _split_by_flags(words) if spelling in aliases]
    return {aliases[spelling]: spelling.removeprefix("--") for spelling in typed if spelling}


def repetitions(flags: Iterable[Flag], words: Sequence[str]) -> dict[str, str]:
    """Name -> all that was typed, of flags that are there more than once and differ.

    Whatever their spelling is.
    """
    by_spelling = {f"--{name}": flag for flag in flags for name in (flag.name, *flag.aliases)}
    typed: dict[Flag, list[tuple[str, list[str]]]] = {}
    for spelling, texts in _split_by_flags(words):
        if spelling is not None and (flag := by_spelling.get(spelling)):
            typed.setdefault(flag, []).append((spelling, texts))
    return {
        flag.name: " ".join(_as_typed(flag, *each) for each in given)
        for flag, given in typed.items()
        if any(texts != given[0][1] for _, texts in given)
    }


def _as_typed(flag: Flag, spelling: str, texts: list[str]) -> str:
    """Without the value of what is secret."""
    return " ".join([spelling, *([] if flag.secret else map(abridged, texts))])


def _split_by_flags(words: Sequence[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Each flag with the words behind it; None for words before the first."""
    spelling: str | None = None
    texts: list[str] = []
    for word in words:
        if not _is_flag(word):
            texts.append(word)
            continue
        if spelling is not None or texts:
            yield spelling, texts
        spelling, joined, text = word.partition("=")
        texts = [text] if joined else []
    if spelling is not None or texts:
        yield spelling, texts


def _is_flag(word: str) -> bool:
    """Whether a word is meant as a flag; negative numbers are not."""
    if word.startswith("--"):
        return True
    return bool(re.match(r"-[^\W\d]", word)) and word.lower() not in ("-inf", "-infinity", "-nan")


def read_settings_file(path: str, flags: Iterable[Flag]) -> tuple[dict[str, object], list[str]]:
    """Values by name of a `--config` file, and a sentence for each that is wrong.

    An empty file sets nothing.
    """
    try:
        require_readable(path)
        with open(path, "rb") as file:
            content = from_yaml(file.read())
    except OSError as error:
        return {}, [f"--config {path}: {unread_yaml(path, error)}"]
    except ValueError as error:
        why = abridged(" ".join(str(error).split()), 300)
        return {}, [f"--config {path} is not valid YAML: {why}."]
    if content is not None and not isinstance(content, dict):
        return {}, [f"--config {path} must hold lines of the form 'flag: value'."]
    known = {flag.name: flag for flag in flags if flag.stored}
    return _read_named(content or {}, known, f"--config {path}")


def _read_named(
    content: Mapping[Any, object], known: Mapping[str, Flag], source: str
) -> tuple[dict[str, object], list[str]]:
    values: dict[str, object] = {}
    problems = []
    for name, value in content.items():
        flag = known.get(name) if isinstance(name, str) else None
        if flag is None:
            hint = nearest(abridged(name), known)
            problems.append(f"{source}: there is no setting {abridged(name, of=_outlined)}{hint}.")
            continue
        try:
            values[flag.name] = flag.read(value)
        except (TypeError, ValueError, OverflowError):
            shown = abridged(value, of=_outlined)
            problems.append(f"{source}: {name}: {shown} is not {flag.expected}.")
    return values, problems


def read_stored(
    settings: Mapping[str, object], flags: Iterable[Flag]
) -> tuple[dict[str, object], list[str]]:
    """Values by name of a checkpoint's settings; what is no flag any more is passed over."""
    known = {flag.name: flag for flag in flags}
    present = {name: value for name, value in settings.items() if name in known}
    return _read_named(present, known, "the settings of the checkpoint")


# What is said


def notices(flags: Iterable[Flag], settings: Settings) -> list[str]:
    """A sentence for each given setting that has no effect: what it is, and because of what."""
    chosen = [flag for flag in flags if flag.name in settings.given]
    return [sentence for flag in chosen if (sentence := _notice(flag, settings))]


def _notice(flag: Flag, settings: Settings) -> str | None:
    """The first need that does not hold, for the whole value or for some entries of a list."""
    value = getattr(settings, flag.name)
    for need in flag.needs:
        idle = [entry for entry in entries_of(value) if not need.holds(settings, entry)]
        if idle:
            because = need.because.format_map(
                {name: in_words(setting) for name, setting in vars(settings).items()}
            )
            verdict = "is ignored" if flag.secret else "has no effect"
            return f"{flag.shown(idle)} {verdict}, because {because}."
    return None


def table(flags: Iterable[Flag]) -> str:
    """Flags as a table in Markdown."""
    rows = [
        "| flag | default | takes | what it does | has an effect with |",
        "|---|---|---|---|---|",
    ]
    for flag in flags:
        names = ", ".join(f"`--{name}`" for name in (flag.name, *flag.aliases))
        default = f"`{in_words(flag.initial())}`" if flag._has_default() else ""
        takes = flag.takes or (f"`{flag.metavar}`" if isinstance(flag, Text) else "")
        cells = (names, default, takes, flag.help, ", ".join(flag.needed()))
        rows.append(" ".join(f"| {_in_cell(cell)}".rstrip() for cell in cells) + " |")
    return "\n".join(rows)


def _in_cell(text: str) -> str:
    """A text without what Markdown reads as something else, but for code."""
    return text if text.startswith("`") else re.sub(r"([|<])", r"\\\1", text)


def nearest(name: str, valid: Iterable[str]) -> str:
    """ " (did you mean …?)", or nothing where no valid name is near."""
    match = nearest_of(name, valid)
    return f" (did you mean {match}?)" if match else ""


def nearest_of(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that is near, if any."""
    import difflib  # here, because few calls of the program need it

    return next(iter(difflib.get_close_matches(name, list(valid), n=1)), None)


def entries_of(value: object) -> list[Any]:
    """The entries of a list, a single value as one, None as none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def in_words(value: object) -> str:
    """A value as it is typed."""
    return " ".join(abridged(entry) for entry in entries_of(value))


def _outlined(value: object) -> str:
    """How Python writes a value, with little of what is large: aliases of YAML may stand for more
    than any memory holds."""
    import reprlib

    outline = reprlib.Repr()
    outline.maxstring = outline.maxother = 2 * SHOWN_CHARACTERS
    return outline.repr(value)


def abridged(
    value: object, length: int = SHOWN_CHARACTERS, of: Callable[[object], str] = str
) -> str:
    """A value for a sentence of readable length, on one line.

    Of what is longer the middle goes: a path says at its end which file is meant.
    """
    try:
        text = of(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    text = text.replace("\n", " ") if text.strip() else repr(text)  # which would be a hole
    if len(text) <= length:
        return text
    kept = length // 2
    return f"{text[: length - 1 - kept]}…{text[-kept:]}"
