"""Text files as editors write them: in UTF-8 or UTF-16, with a byte order mark or without."""

import codecs
import io
from pathlib import Path

from utilities.paths import expanded, require_readable

# Those of UTF-32 begin with those of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
LONGEST_MARK = max(len(mark) for mark, _ in MARKS)


def with_rows(file: str) -> list[Path]:
    """A file of numbers and, of an `.npy`, the `.txt` beside it that names its rows, one a line."""
    path = Path(expanded(file))
    return [path, _rows_beside(path)] if path.suffix.lower() == ".npy" else [path]


def rows_of(array: Path) -> list[str]:
    """The lines of the file beside an `.npy`.

    Raises ValueError where there is no such file, else as `lines_of`.
    """
    beside = _rows_beside(array)
    if not beside.exists():
        raise ValueError(f"there is no {beside.name} beside it")
    return lines_of(beside)


def _rows_beside(array: Path) -> Path:
    return array.with_suffix(".txt")


def encoding_of(beginning: bytes) -> str:
    """Of a file that begins so."""
    return next((name for mark, name in MARKS if beginning.startswith(mark)), "utf-8")


def read_text(path: str | Path, errors: str = "strict") -> str:
    """The text of a file, without its mark.

    Raises OSError, and ValueError for another encoding unless `errors` is replace.
    """
    require_readable(path)
    content = Path(path).read_bytes()
    encoding = encoding_of(content)
    try:
        return content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is no {encoding.removesuffix('-sig').upper()} text"
        ) from error


def lines_of(path: str | Path, errors: str = "strict") -> list[str]:
    """The lines of a text file, parted by ends of lines alone; raises as `read_text`."""
    # Not by `splitlines`: words of published vectors hold what it takes for an end, as U+0085.
    text = io.StringIO(read_text(path, errors), newline=None)
    return [line.removesuffix("\n") for line in text]


def require_commas(text: str) -> None:
    """Raises ValueError for a table of which the first line is separated by other marks."""
    header = text.partition("\n")[0]
    for mark, name in OTHER_SEPARATORS.items():
        if mark in header and "," not in header:
            raise ValueError(f"its columns are separated by {name}; save it with commas")
