"""Text as a page shows it: names that may hold anything, numbers, counts."""

import math
from collections.abc import Iterable

JOINERS = "\u200c\u200d"  # within words of Persian or Hindi, and within emoji
FIRST_BYTE, LAST_BYTE = 0xDC80, 0xDCFF  # how Python keeps bytes of a name that are not UTF-8


def visible(text: str) -> str:
    """With escapes for bytes that are no text, control characters and marks that turn the line.

    A byte is written as `\\xf6`.
    """
    if text.isprintable():
        return text
    return "".join(
        mark if mark.isprintable() or mark in JOINERS else _escape(mark) for mark in text
    )


def _escape(mark: str) -> str:
    code = ord(mark)
    if FIRST_BYTE <= code <= LAST_BYTE:
        return f"\\x{code - FIRST_BYTE + 0x80:02x}"
    return ascii(mark)[1:-1]


def number(value: float) -> str:
    """Four digits that count, never more than seven letters of a usual number: 0.4567, 12.35."""
    if not math.isfinite(value):
        return "no value"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.4g}"


def counted(count: int, thing: str, several: str = "") -> str:
    """ "1 run", "2,000 runs"."""
    return f"{count:,} {thing if count == 1 else several or f'{thing}s'}"


def listed(things: Iterable[object]) -> str:
    """ "a, b and c"."""
    *others, last = [str(thing) for thing in things]
    return f"{', '.join(others)} and {last}" if others else last
