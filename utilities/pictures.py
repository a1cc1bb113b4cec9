"""Text in pictures: any name is drawn as it is written, or at least told from the others.

matplotlib is imported where it draws, because it is slow to load.
"""

import logging
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from utilities import durable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = logging.getLogger(__name__)
FONT = "DejaVu Sans"  # comes with matplotlib
BOXES = "Last Resort"  # has a box for every character
# Categories of characters that no font draws: control, half of a pair, ends of lines. Bytes of a
# name that are not UTF-8 are such halves.
NEVER_DRAWN = ("Cc", "Cs", "Zl", "Zp")
DPI = 130
ELLIPSIS = "…"


class Letters(NamedTuple):
    """
    Attributes:
        fonts: names of fonts that draw a text together. escapes: code point -> what is written in
            its place, of the characters that none of them has.
    """

    fonts: list[str]
    escapes: dict[int, str]


@contextmanager
def lettered(names: Iterable[str], characters: int = 80) -> Iterator[Mapping[str, str]]:
    """name -> what is drawn of it; inside, text is no formula and fonts are those that it needs.

    Different names stay different when they are cut to so many characters.
    """
    import matplotlib

    names = list(dict.fromkeys(names))
    letters = _letters_of(names)
    plain: Any = {"text.parse_math": False, "text.usetex": False, "font.family": letters.fonts}
    written = [name.translate(letters.escapes) for name in names]
    with matplotlib.rc_context(plain), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield dict(zip(names, abbreviated(written, characters)))


def abbreviated(texts: list[str], characters: int) -> list[str]:
    """Texts of at most so many characters, in which those that differ still do.

    Long ones lose their end; where that makes two alike, their middle; or else they are numbered.
    """
    shown: dict[str, str] = {}
    taken: set[str] = {text for text in texts if len(text) <= characters}
    beginnings = [text[: characters - 1] for text in dict.fromkeys(texts)]
    for text in dict.fromkeys(texts):
        if len(text) <= characters:
            shown[text] = text
            continue
        is_alone = beginnings.count(text[: characters - 1]) == 1
        tail = 0 if is_alone else characters // 2
        short = text[: characters - 1 - tail] + ELLIPSIS + text[len(text) - tail :]
        number = 2
        while short in taken:
            end = f"{ELLIPSIS} ({number})"
            short, number = text[: characters - len(end)] + end, number + 1
        shown[text] = short
        taken.add(short)
    return [shown[text] for text in texts]


class Ruler:
    """Measures text, inside `lettered`."""

    def __init__(self, size: float):
        from matplotlib.backends.backend_agg import RendererAgg
        from matplotlib.font_manager import FontProperties

        self.renderer, self.properties = RendererAgg(8, 8, DPI), FontProperties(size=size)

    def width(self, text: str) -> float:
        """Inches."""
        pixels, _, _ = self.renderer.get_text_width_height_descent(text, self.properties, False)
        return pixels / DPI

    def lines(self, text: str, width: float) -> list[str]:
        """The text in lines of at most so many inches, divided between words where it can be."""
        lines = [""]
        for word in re.findall(r"[^\s_/-]*[\s_/-]+|[^\s_/-]+", text):
            fits = self.width((lines[-1] + word).rstrip()) <= width
            if lines[-1] and not fits:
                lines.append("")
                fits = self.width(word.rstrip()) <= width
            if fits:  # without measuring its beginnings, which takes most of the time of a figure
                lines[-1] += word
                continue
            for character in word:
                if lines[-1] and self.width((lines[-1] + character).rstrip()) > width:
                    lines.append("")
                lines[-1] += character
        return [line.rstrip() for line in lines if line.strip()]


def new_figure(width: float, height: float) -> "Figure":
    """Of inches; without pyplot, which would keep it and choose a backend for the whole process."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def save(figure: "Figure", file: Path, dpi: int = DPI, *, tight: bool = True) -> Path:
    """Write a figure, of which the old one stays until it is whole; returns the file.

    Raises UserError for a file that cannot be written.

    Args:
        tight: with all text that stands beyond its edges, for which it is drawn twice.
    """
    with durable.written(file) as temporary:
        figure.savefig(
            temporary,
            format=file.suffix.removeprefix("."),
            dpi=dpi,
            bbox_inches="tight" if tight else None,
            pad_inches=0.06,
        )
    return file


def _letters_of(texts: Iterable[str]) -> Letters:
    """Fonts of this machine for the characters of some texts."""
    characters = {character for text in texts for character in text}
    never = {character for character in characters if _is_never_drawn(character)}
    missing = {ord(character) for character in characters - never} - _characters_of(_base_font())
    fonts = [FONT]
    if missing:
        for name, path in _other_fonts():
            if found := missing & _characters_of(path):
                fonts.append(name)
                missing -= found
    if missing:
        _tell_of("".join(sorted(map(chr, missing))))
    escaped = missing | {ord(character) for character in never}
    return Letters(fonts, {code: _escape(code) for code in escaped})


def _is_never_drawn(character: str) -> bool:
    return unicodedata.category(character) in NEVER_DRAWN


def _escape(code: int) -> str:
    """`\\u72d7`; of a byte that is not UTF-8 the byte, `\\xf6`."""
    is_byte = 0xDC80 <= code <= 0xDCFF
    return f"\\x{code - 0xDC00:02x}" if is_byte else chr(code).encode("unicode_escape").decode()


def _base_font() -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont(FONT))


@cache
def _other_fonts() -> list[tuple[str, str]]:
    """Name and file of each font family of this machine, those for screens before the others."""
    from matplotlib import font_manager

    fonts: dict[str, str] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.style == "normal" and not entry.name.startswith(BOXES):
            fonts.setdefault(entry.name, str(entry.fname))
    return sorted(fonts.items(), key=lambda font: ("Sans" not in font[0], font[0]))


@cache
def _characters_of(path: str) -> frozenset[int]:
    """Code points that a font file can draw; none of a file that cannot be read or scaled."""
    from matplotlib import font_manager

    try:
        font = font_manager.get_font(path)
        font.set_size(8, DPI)  # fails for fonts of pictures, such as those of emoji
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache  # said once of the same characters
def _tell_of(characters: str) -> None:
    LOG.info(
        "No font of this machine has the characters %s: figures show their code points; install a "
        "font that has them, such as one of Noto.",
        characters if len(characters) <= 20 else characters[:20] + ELLIPSIS,
    )
