"""Word vectors as GloVe, fastText and word2vec publish them: `--language_model vectors:FILE`.

The vector of a text is the mean over its words. A file is read once for all texts, and of it only
the words that they use, because some have millions.
"""

import gzip
import logging
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from utilities import text_file
from utilities.errors import UserError, named
from utilities.paths import expanded, require_readable

LOG = logging.getLogger(__name__)
# Words with what joins them inside: St. Bernard's, three-toed, 10.5.
JOINT = "['\N{RIGHT SINGLE QUOTATION MARK}.-]"
# Signs of vowels, as Hindi writes them behind a letter, and what parts or joins letters of a word.
SIGNS = "".join(
    character
    for character in map(chr, range(0x300, 0x1F000))
    if unicodedata.category(character).startswith("M")
)
LETTER = rf"[\w{SIGNS}\N{{ZERO WIDTH NON-JOINER}}\N{{ZERO WIDTH JOINER}}]"
WORD = re.compile(rf"\w{LETTER}*(?:{JOINT}{LETTER}+)*")
JOINTS = re.compile(rf"{JOINT}|_")
KIND = "vectors"


def encode(file: str, texts: Sequence[str]) -> torch.Tensor:
    """[T, E] float32: the mean vector of the words of each text.

    A word counts as it is written, else in lower case, else by its parts. Words that the file lacks
    are left out, and told; a text of which it has no word gets zeros.

    Args:
        file: text, a word and its numbers a line, with or without a first line that counts them,
            also as `.gz`; or `.npy` with the rows of the words of the file beside it that ends in
            `.txt`. Of a word that is there twice the first counts.
    Raises:
        UserError: a file of another form.
    """
    words = [WORD.findall(composed(text)) for text in texts]
    wanted = {form for found in words for word in found for form in _forms(word)}
    vectors = _read(Path(expanded(file)), wanted)
    missing: dict[str, None] = {}
    rows: list[np.ndarray | None] = []
    for found in words:
        known = []
        for word in found:
            own = _vectors_of(word, vectors)
            known += own
            if not own:
                missing[word] = None
        rows.append(np.mean(known, axis=0) if known else None)
    if missing:
        shown = named(list(missing), 8)
        LOG.warning(
            "%s lacks %d of the words, which count for nothing: %s.", file, len(missing), shown
        )
    width = next((len(row) for row in rows if row is not None), 1)
    whole = [np.zeros(width) if row is None else row for row in rows]
    return torch.from_numpy(np.stack(whole).astype(np.float32))


def composed(text: str) -> str:
    """With letters and their accents as one character, which file systems part."""
    return unicodedata.normalize("NFC", text)


def _parts(word: str) -> list[str]:
    return [part for part in JOINTS.split(word) if part]


def _forms(word: str) -> list[str]:
    """As which a word may stand in the file."""
    parts = _parts(word)
    return [word, word.lower(), *parts, *(part.lower() for part in parts)]


def _vectors_of(word: str, vectors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Its own vector, or else those of its parts."""
    for form in (word, word.lower()):
        if form in vectors:
            return [vectors[form]]
    found = []
    for part in _parts(word):
        form = part if part in vectors else part.lower()
        if form in vectors:
            found.append(vectors[form])
    return found


def _read(file: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """The vectors of the wanted words that a file has."""
    try:
        require_readable(file)
        read = _of_array if file.suffix.lower() == ".npy" else _of_lines
        vectors: dict[str, np.ndarray] = {}
        repeated: dict[str, None] = {}
        for word, vector in read(file, wanted):
            if vectors.setdefault(word, vector) is not vector:
                repeated[word] = None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UserError(
            f"--language_model vectors:{file} cannot be read "
            f"({getattr(error, 'strerror', None) or error}); expected are lines of a word and its "
            "numbers (GloVe, fastText and word2vec text), or .npy with the words in a .txt beside "
            "it, one a line."
        ) from error
    if repeated:
        LOG.warning(
            "%s has several vectors of a word, of which the first counts: %s.",
            file,
            named(list(repeated), 8),
        )
    return vectors


def _of_lines(file: Path, wanted: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    width = 0
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            word, _, rest = line.lstrip("\ufeff").rstrip("\n").partition(" ")
            if number == 1 and len(rest.split()) == 1:
                continue  # how many words and dimensions follow
            width = width or _numbers_at_end(rest.split(), number)
            word = composed(word)
            if word not in wanted:
                continue
            cells = rest.split()
            if len(cells) > width:
                continue  # another word, which has spaces in it
            if not width:
                raise ValueError(f"line {number} has no numbers behind its word")
            if len(cells) < width:
                raise ValueError(f"line {number} has {len(cells)} numbers, others {width}")
            yield word, _finite(_vector(cells, number), number)
    if not width:
        raise ValueError("no line has a word and, behind a space, its numbers")


def _opened(file: Path) -> TextIO:
    """Bytes that are no text stay in words, which are then others."""
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", errors="surrogateescape")
    with file.open("rb") as beginning:
        encoding = text_file.encoding_of(beginning.read(text_file.LONGEST_MARK))
    return file.open(encoding=encoding, errors="surrogateescape")


def _numbers_at_end(cells: list[str], line: int) -> int:
    """How many of the cells behind a word are numbers: those before them are the word's too."""
    count = len(list(takewhile(_is_number, reversed(cells))))
    if cells and not count:
        raise ValueError(f"line {line} has no numbers behind its word")
    return count


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _vector(cells: list[str], line: int) -> np.ndarray:
    try:
        if any("_" in cell for cell in cells):  # which numbers pass over, so that 0_5 were 5
            raise ValueError
        with np.errstate(over="ignore"):  # which is then not finite
            return np.array(cells, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"line {line} has something else than numbers") from error


def _of_array(file: Path, wanted: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError("it holds no array of numbers")
    words = [composed(word.strip()) for word in text_file.rows_of(file)]
    if array.ndim != 2 or len(words) != len(array):
        raise ValueError(f"{len(words)} words, and an array of shape {array.shape}")
    for number, (word, row) in enumerate(zip(words, array), start=1):
        if word in wanted:
            yield word, _finite(np.array(row, dtype=np.float32), number)


def _finite(vector: np.ndarray, line: int) -> np.ndarray:
    if not np.isfinite(vector).all():
        raise ValueError(f"line {line} has a number that is not finite")
    return vector
