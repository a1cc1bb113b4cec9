"""JSON and YAML as people write them.

What the libraries take without a word (a key twice, half a character) or answer with a traceback
(nesting without end) is a ValueError with a short reason, as everything else is that is not well
formed. What YAML 1.1 reads as a date, or as a number in another form than the decimal one, is a
text as it is written; and a decimal number is written again as it was, where it is a name.
Nothing is imported before it is needed, so that help is instant.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

_TOO_DEEP = "it is nested too deeply"
# 010, 0x10 and 0b1; 1_000, 1:30 and 1:30.5; whole numbers as no program writes them.
_NO_DECIMAL = re.compile(r"[-+]?0([0-9_]+|[bx].*)|.*[_:].*|\+[0-9]+|-0")
_MERGED = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")  # the keys << and =
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


class WrittenNumber(float):
    """A number that is written otherwise than Python would: 1.50 is a name, too."""

    text: str

    def __new__(cls, value: float, text: str) -> "WrittenNumber":
        number = super().__new__(cls, value)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text


def from_json(text: str) -> Any:
    """The value that a JSON text holds. Raises ValueError, in which a repeated name is named."""
    import json

    try:
        value = json.loads(text, object_pairs_hook=_named_once)
        require_characters(text if r"\u" not in text else json.dumps(value, ensure_ascii=False))
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    return value


def from_yaml(content: str | bytes) -> Any:
    """The value of a YAML document, None of an empty one.

    Bytes are UTF-8 or, with a byte order mark, UTF-16. Raises ValueError, with the line where there
    is one.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Each key once, characters only, and a line in what is wrong."""

        def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
            if isinstance(node, yaml.ScalarNode) and _is_text_as_written(node):
                node.tag = self.DEFAULT_SCALAR_TAG
            try:
                value = super().construct_object(node, deep)
            except (AttributeError, OverflowError, ValueError) as error:
                why = str(error) if isinstance(error, ValueError) else "it is not what its tag says"
                raise yaml.MarkedYAMLError(None, None, why, node.start_mark) from error
            is_other = isinstance(value, float) and str(value) != node.value
            return WrittenNumber(value, node.value) if is_other else value

        def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
            if isinstance(node.value, str) and _HALF_CHARACTER.search(node.value):
                raise yaml.MarkedYAMLError(None, None, _half_of(node.value), node.start_mark)
            return super().construct_scalar(node)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [
                key
                for key, _ in node.value
                if isinstance(key, yaml.ScalarNode) and key.tag not in _MERGED
            ]
            _require_keys_once([(self.construct_object(key), key) for key in keys])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(content, Loader)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    except yaml.YAMLError as error:
        raise ValueError(_reason_in_yaml(error)) from error


def require_characters(text: str) -> None:
    """Raises ValueError for half of a pair of code units, which no file can hold."""
    if _HALF_CHARACTER.search(text):
        raise ValueError(_half_of(text))


def _half_of(text: str) -> str:
    half = _HALF_CHARACTER.search(text)
    return f"\\u{ord(half[0]):x} is half a character" if half else ""


def _named_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for name, member in pairs:
        if name in value:
            raise ValueError(f"{name!a} is there twice")
        value[name] = member
    return value


def _is_text_as_written(node: "yaml.ScalarNode") -> bool:
    """Whether YAML 1.1 takes for a date, or a number to another base, what a person wrote."""
    if node.tag == "tag:yaml.org,2002:timestamp":
        return True
    is_number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    return is_number and bool(_NO_DECIMAL.fullmatch(node.value))


def _require_keys_once(keys: "Sequence[tuple[object, yaml.ScalarNode]]") -> None:
    """Raises yaml.MarkedYAMLError at the second of two keys of one value, such as 1 and 1.0."""
    import yaml

    seen: set[object] = set()
    for value, key in keys:
        if value in seen:
            raise yaml.MarkedYAMLError(None, None, f"{key.value} is there twice", key.start_mark)
        seen.add(value)


def _reason_in_yaml(error: Exception) -> str:
    """What is wrong, and in which line; without the name that yaml gives to what it reads."""
    import yaml

    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        return f"line {mark.line + 1}: {what}" if mark else what
    if isinstance(error, yaml.reader.ReaderError):
        return f"position {error.position}: {error.reason}"
    return str(error)
