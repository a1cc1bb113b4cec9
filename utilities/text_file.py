"""Text files as editors write them: in UTF-8 or UTF-16, with a byte order mark or without."""

import codecs
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


def with_rows(file: str) -> list[Path]:
    """A file of numbers and, of an `.npy`, the `.txt` beside it that names its rows, one a line."""
    path = Path(expanded(file))
    return [path, _rows_beside(path)] if path.suffix.lower() == ".npy" else [path]


def rows_of(array: Path) -> list[str]:
    """The lines of the file beside an `.npy`; raises as `lines_of`."""
    return lines_of(_rows_beside(array))


def _rows_beside(array: Path) -> Path:
    return array.with_suffix(".txt")


def read_text(path: str | Path, errors: str = "strict") -> str:
    """The text of a file, without its mark.

    Raises OSError, and ValueError for another encoding unless `errors` is replace.
    """
    require_readable(path)
    content = Path(path).read_bytes()
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is no {encoding.removesuffix('-sig').upper()} text"
        ) from error


def lines_of(path: str | Path, errors: str = "strict") -> list[str]:
    """The lines of a text file; raises as `read_text`."""
    return read_text(path, errors).splitlines()
