"""Boxes of a table, held against the images that they cut."""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from datasets.decoding import UNREADABLE, size_of
from utilities.errors import UserError

LOG = logging.getLogger(__name__)
THREADS = 4


def inside(files: list[str], boxes: np.ndarray, *, oriented: bool) -> np.ndarray:
    """The boxes [N, 4], cut off where they reach beyond their images; those are told.

    Images that cannot be read are left to be found later.

    Args:
        oriented: boxes are in pixels of the image as it is shown, else of its pixels as they lie.
    Raises:
        UserError: a box without a pixel of its image.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = np.array(list(pool.map(partial(_size, oriented=oriented), files)))
    limits = np.where(sizes == 0, np.iinfo(np.int64).max, sizes)
    if (beyond := (boxes[:, :2] >= limits).any(axis=1)).any():
        row = int(beyond.argmax())
        width, height = sizes[row].tolist()
        left, top, right, bottom = boxes[row].tolist()
        raise UserError(
            f"--source_path: the box {left} {top} {right} {bottom} lies outside of its image "
            f"{files[row]}, which has {width} x {height} pixels as it is "
            f"{'shown' if oriented else 'stored'}."
        )
    cut = np.concatenate([boxes[:, :2], np.minimum(boxes[:, 2:], limits)], axis=1)
    if changed := int((cut != boxes).any(axis=1).sum()):
        first = files[int((cut != boxes).any(axis=1).argmax())]
        LOG.warning(
            "%s boxes reach beyond their images and are cut off there (%s).", f"{changed:,}", first
        )
    return cut


def _size(file: str, *, oriented: bool) -> tuple[int, int]:
    """Width and height, 0 for an image that cannot be read."""
    try:
        return size_of(file, oriented=oriented)
    except UNREADABLE:
        return 0, 0
