"""Decoded images, kept in memory or in a file that all loading processes share.

An image reads the same whether it is kept yet or not.
"""

import fcntl
import hashlib
import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch

from datasets.decoding import PIXELS_VERSION, Pixels, Source, open_image, resized
from datasets.images import Splits
from datasets.transforms import scaled_to
from utilities import memory
from utilities.errors import UserError
from utilities.fingerprint import stamps
from utilities.paths import expanded

LOG = logging.getLogger(__name__)
GB = 10**9
# Columns of the table: the size of an image, that of its kept pixels, and their first byte.
HEIGHT, WIDTH, KEPT_HEIGHT, KEPT_WIDTH, START = range(5)
COLUMNS = 5
LARGEST_SIDE = 2**20  # of an image
ABSENT, BEING_WRITTEN = 0, -1  # instead of a START, which is behind the table


def attached(
    splits: Splits, kind: str, *, limit: float, short_side: int, folder: str, fast: bool
) -> Splits:
    """The splits with their images read through one cache, or decoded each time: see `opener`."""
    open_kept = opener(
        splits.files(),
        kind,
        limit=limit,
        short_side=short_side,
        folder=folder,
        fast=fast,
        oriented=splits.training.oriented,
    )
    return splits.changed(lambda split: split.opened_by(open_kept))


def opener(
    files: list[str],
    kind: str,
    *,
    limit: float,
    short_side: int,
    folder: str,
    fast: bool,
    oriented: bool = True,
) -> Callable[[str], Source]:
    """How the files are read: through a cache, or decoded each time.

    Args:
        kind: `none`, `ram` or `disk`.
        limit: GB that pixels may take, but at most half of the machine's memory or of the free
            disk. folder: of the files of `disk`.
        short_side: keep larger images reduced to it; 0 keeps all as they are.
        fast, oriented: see `open_image`; what is kept is decoded exactly, as that happens once.
    Raises:
        UserError: the file or the memory cannot be had.
    """
    if kind == "none":
        return partial(open_image, fast=fast, oriented=oriented)
    try:
        home = Path(expanded(folder))
        file = _file(home, files, short_side, oriented) if kind == "disk" else None
        images = ImageCache(
            files, file=file, limit=int(limit * GB), short_side=short_side, oriented=oriented
        )
    except OSError as error:
        where = f"--cache_path {folder}" if kind == "disk" else "memory"
        raise UserError(
            f"--cache {kind}: {limit:g} GB of images cannot be kept in {where} ({error.strerror}); "
            "lower --cache_limit, or give --cache none."
        ) from error
    return images.open_image


class ImageCache:
    """One mapping of memory or of a file, shared by all loading processes.

    It holds the bytes used, a table with a row per image, then pixels in the order in which images
    were first read.

    Args:
        files: of all images. short_side, oriented: see `opener`.
        file: where pixels stay for other runs; None: in memory. limit: bytes for pixels, see
            `opener`.
    """

    def __init__(
        self,
        files: list[str],
        *,
        file: Path | None,
        limit: int,
        short_side: int,
        oriented: bool = True,
    ):
        self.rows = {path: row for row, path in enumerate(files)}
        self.short_side, self.oriented = short_side, oriented
        self.lock_file = _lock_file(file)
        descriptor = self.lock_file.fileno()
        start = 8 + 8 * COLUMNS * len(files)
        with self._alone():
            size = os.fstat(descriptor).st_size  # before it grows: behind it nobody has written
            # A file that is there holds what it holds.
            self.end = max(size, start + min(limit, _room(file) // 2))
            if file:
                os.ftruncate(descriptor, self.end)  # sparse: takes what is written
            mapping = np.frombuffer(mmap.mmap(descriptor if file else -1, self.end), dtype=np.uint8)
            self.used = mapping[:8].view(np.int64)
            self.table = mapping[8:start].view(np.int64).reshape(-1, COLUMNS)
            self.pixels = torch.from_numpy(mapping)
            # Those of a process that was killed. One that still writes will write the same again.
            self.table[self.table[:, START] == BEING_WRITTEN, START] = ABSENT
            kept_to = self._forget_what_cannot_be(start, size)
            self.used[0] = max(min(self.used[0], size), kept_to)
        self._tell_room(file, self.end - start)

    def open_image(self, path: str) -> Source:
        """The image as it is kept, and keep it if there is room; raises UNREADABLE."""
        entry = self.table[self.rows[path]]
        if self._is_kept(entry):
            return _source(int(entry[HEIGHT]), int(entry[WIDTH]), self._kept(entry))
        source = open_image(path, oriented=self.oriented)
        values = self._shrunk(source)
        self._keep(entry, source, values)
        return _source(source.height, source.width, values)

    def _forget_what_cannot_be(self, start: int, size: int) -> int:
        """Rows that nobody wrote: a damaged file is read anew, as is what was cut off from one.

        Returns where what is kept ends.

        Args:
            start: the first byte behind the table. size: bytes that the file had.
        """
        sizes = self.table[:, :START].clip(0, LARGEST_SIDE)
        height, width, kept_height, kept_width = sizes.T
        ends = self.table[:, START].clip(0, size) + 3 * kept_height * kept_width
        is_image = (sizes == self.table[:, :START]).all(axis=1) & (kept_height * kept_width > 0)
        is_shrunk = (kept_height <= height) & (kept_width <= width)
        is_within = (self.table[:, START] >= start) & (ends <= size)
        is_sound = is_image & is_shrunk & is_within
        if damaged := int((~is_sound & (self.table[:, START] != ABSENT)).sum()):
            LOG.warning("%s kept images are damaged and are read anew.", f"{damaged:,}")
        self.table[~is_sound, START] = ABSENT
        return int(ends[is_sound].max(initial=start))

    def _tell_room(self, file: Path | None, room: int) -> None:
        present = int((self.table[:, START] > 0).sum())
        LOG.info(
            "Decoded images are kept in %s, up to %.1f GB%s; those beyond are decoded each time.",
            file or "memory",
            room / GB,
            f" ({present:,} of {len(self.table):,} are there)" if file else "",
        )

    def _is_kept(self, entry: np.ndarray) -> bool:
        """Whether its pixels are there, and within the mapping: another run may keep more."""
        size = 3 * int(entry[KEPT_HEIGHT]) * int(entry[KEPT_WIDTH])
        return 0 < entry[START] <= self.end - size

    def _kept(self, entry: np.ndarray) -> torch.Tensor:
        """[h, w, 3], a view of the mapping."""
        height, width, start = (int(entry[column]) for column in (KEPT_HEIGHT, KEPT_WIDTH, START))
        return self.pixels[start : start + 3 * height * width].view(height, width, 3)

    def _shrunk(self, source: Source) -> torch.Tensor:
        """[h, w, 3]"""
        size = source.height, source.width
        if 0 < self.short_side < min(size):
            size = scaled_to(self.short_side, *size)
        return resized(source.pixels(1, source.height).values, size)

    def _keep(self, entry: np.ndarray, source: Source, values: torch.Tensor) -> None:
        with self._alone():
            start = int(self.used[0])
            if entry[START] != ABSENT or start + values.numel() > self.end:
                return
            self.used[0], entry[START] = start + values.numel(), BEING_WRITTEN
        entry[HEIGHT:START] = source.height, source.width, *values.shape[:2]
        self.pixels[start : start + values.numel()] = values.reshape(-1)
        entry[START] = start  # last: whoever sees it may read the pixels

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time, of this run or of another with the same file."""
        fcntl.lockf(self.lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.lock_file, fcntl.LOCK_UN)


def _lock_file(file: Path | None) -> IO[bytes]:
    """Open as long as the cache lives: the file of the pixels, or an empty one."""
    return open(file, "a+b") if file else tempfile.TemporaryFile()


def _source(height: int, width: int, values: torch.Tensor) -> Source:
    pixels = Pixels(values, values.shape[0] / height, values.shape[1] / width)
    return Source(height, width, lambda reduction, rows: pixels)


def _file(folder: Path, files: list[str], short_side: int, oriented: bool) -> Path:
    """Named by the images, by what shows a change of them, and by how they are kept."""
    facts = list(zip(files, stamps(files)))
    digest = hashlib.sha256(
        repr((PIXELS_VERSION, oriented, short_side, facts)).encode()
    ).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"images_{digest}.bin"


def _room(file: Path | None) -> int:
    """Free bytes on the disk of the file, or the memory of the machine."""
    if file:
        return shutil.disk_usage(file.parent).free
    return memory.total()
