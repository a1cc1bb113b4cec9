"""Shares of counts."""

from typing import TypeVar

import numpy as np

ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996
Counts = TypeVar("Counts", int, np.ndarray)


def whole_part(counts: Counts, share: float) -> Counts:
    """So many of each count as the share is, rounded down: 0.29 of 100 are 29."""
    part = np.floor(counts * share + ROUNDING).astype(np.int64)
    return part if isinstance(counts, np.ndarray) else int(part)
