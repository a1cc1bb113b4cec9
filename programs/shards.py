"""Embeddings in a folder of shards, which numpy maps into memory, for galleries of any size.

    gallery.json          what they were made from, written before the first shard
    shard_00000.npy, ...  [R, D] float32, as many rows in each but the last
    labels.npy            [N] int64, -1 is no class; class_names are in gallery.json
    paths.npy             uint8, the paths with a NUL after each
    path_ends.npy         [N] int64, where each path ends there; path_names.npy tells names apart

Each file appears when it is whole. What is interrupted loses the shard in work and goes on there.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from evaluation.large_search import Rows
from programs.constants import GALLERY
from programs.embedding_file import Source
from utilities import durable
from utilities.errors import UserError, reason
from utilities.fingerprint import differences

ROWS = 2**12  # of a shard, or some more: whole batches
FORMAT = 1
BESIDE = ("labels.npy", "paths.npy", "path_ends.npy", "path_names.npy")


class Origin(NamedTuple):
    """What a gallery is made from; with another nothing is added to it.

    Attributes:
        checkpoint: identity of the network. images: their fingerprint.
    """

    checkpoint: str
    evaltype: str
    precision: str
    images: dict[str, int | str]


class Plan(NamedTuple):
    """What gallery.json holds, beside the class names."""

    origin: Origin
    rows: int
    dimension: int
    rows_per_shard: int

    def shards(self) -> int:
        return -(-self.rows // self.rows_per_shard)

    def part(self, number: int) -> range:
        """The rows of a shard."""
        start = number * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, self.rows))


class Paths(Sequence[str]):
    """The paths of a gallery, read from its files as they are asked for."""

    def __init__(self, folder: Path):
        self.text = np.load(folder / "paths.npy", mmap_mode="r")
        self.ends = np.load(folder / "path_ends.npy", mmap_mode="r")
        self.names = np.load(folder / "path_names.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if place < 0:
            place += len(self)
        start = int(self.ends[place - 1]) + 1 if place else 0
        return os.fsdecode(self.text[start : int(self.ends[place])].tobytes())

    def named(self, names: Iterable[str]) -> list[int]:
        """Places of files that may be called one of `names`, folders aside."""
        asked = np.array([_digest(name) for name in names], dtype=np.uint32)
        return np.flatnonzero(np.isin(self.names, asked)).tolist()


def begin(folder: Path, source: Source, plan: Plan, flag: str) -> Plan:
    """Make the folder, or go on with what is there; the plan that holds is that of the folder.

    Raises UserError, naming the flag, for a folder of something else.
    """
    if (folder / GALLERY).exists():
        stored, _ = _read_plan(folder, flag)
        _require_same(folder, stored, plan, flag)
        return stored
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{flag} {folder}: it is a file, not a folder.")
    if folder.is_dir() and (others := [file for file in os.listdir(folder) if not _is_ours(file)]):
        raise UserError(
            f"{flag} {folder} is a folder with other files ({others[0]!a}); choose another."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _put_source(folder, source)
        described = plan._asdict() | {"origin": plan.origin._asdict(), "format": FORMAT}
        described["class_names"] = source.class_names
        _put(folder / GALLERY, json.dumps(described, indent=1).encode())
    except OSError as error:
        raise _unwritable(folder, flag, error) from error
    return plan


def missing(folder: Path, plan: Plan) -> list[range]:
    """Runs of shards that are not there yet."""
    runs: list[range] = []
    for number in range(plan.shards()):
        if _shard(folder, number).exists():
            continue
        is_next = bool(runs) and runs[-1].stop == number
        runs[-1:] = (
            [range(runs[-1].start, number + 1)]
            if is_next
            else [*runs[-1:], range(number, number + 1)]
        )
    return runs


def write(
    folder: Path, plan: Plan, numbers: range, blocks: Iterable[np.ndarray], flag: str
) -> None:
    """The rows of some shards, which come in blocks [B, D] float32; each is there when it is full.

    Raises UserError, naming the flag, where it cannot be written.
    """
    try:
        for number, rows in zip(numbers, _divided(blocks, plan, numbers)):
            _put(_shard(folder, number), rows)
    except OSError as error:
        raise _unwritable(folder, flag, error) from error


def read(folder: Path, flag: str) -> tuple[Rows, Source, Origin]:
    """Of a whole gallery the rows, mapped into memory, what they belong to and are made from.

    Raises UserError, naming the flag, for one that is not whole.
    """
    plan, class_names = _read_plan(folder, flag)
    if left := sum(map(len, missing(folder, plan))):
        raise UserError(
            f"{flag} {folder} is not whole: {left} of its {plan.shards()} shards are missing; call "
            "programs.embed again with this folder, it goes on where it stopped."
        )
    try:
        parts = [_mapped(folder, plan, number) for number in range(plan.shards())]
        paths, labels = Paths(folder), np.load(folder / "labels.npy", mmap_mode="r")
        _require_fitting(plan, paths, labels, class_names)
    except (OSError, ValueError, EOFError) as error:
        raise _foreign(folder, flag, error) from error
    origin = plan.origin
    source = Source(paths, labels, class_names, origin.checkpoint, origin.evaltype)
    return Rows(parts), source, origin


def _require_fitting(
    plan: Plan, paths: Paths, labels: np.ndarray, class_names: Sequence[str]
) -> None:
    """Raises ValueError where labels and paths are not those of the rows."""
    if not plan.rows == len(paths) == len(labels) == len(paths.names):
        raise ValueError("it has not one path and one label for each embedding")
    if not labels.dtype.kind == paths.ends.dtype.kind == "i":
        raise ValueError("its labels, or the ends of its paths, are no whole numbers")
    if not -1 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError("it has labels of classes without a name")
    ends = paths.ends
    if ends[0] < 0 or ends[-1] != len(paths.text) - 1 or (ends[1:] <= ends[:-1]).any():
        raise ValueError("its paths do not end where it says")


def _require_same(folder: Path, stored: Plan, plan: Plan, flag: str) -> None:
    was, now = stored.origin, plan.origin
    if changed := differences(was.images, now.images):
        what = f"other images ({', '.join(changed)})"
    elif was.checkpoint != now.checkpoint:
        what = "another checkpoint"
    elif was.evaltype != now.evaltype:
        what = f"--evaltype {was.evaltype}"
    elif was.precision != now.precision:
        what = f"--precision {was.precision}"
    else:
        return
    raise UserError(
        f"{flag} {folder} holds embeddings of {what}; choose another folder, or remove this one."
    )


def _read_plan(folder: Path, flag: str) -> tuple[Plan, list[str]]:
    try:
        # Names of bytes that are not UTF-8 are halves of characters here, and stay them.
        stored: dict[str, Any] = json.loads((folder / GALLERY).read_text())
        if stored["format"] != FORMAT:
            raise ValueError(f"its format is {stored['format']!a}")
        origin = Origin(**stored["origin"])
        rows, dim, most = (int(stored[name]) for name in ("rows", "dimension", "rows_per_shard"))
        if min(rows, dim, most) < 1:
            raise ValueError("it has no rows")
        return Plan(origin, rows, dim, most), list(map(str, stored["class_names"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _foreign(folder, flag, error) from error


def _put_source(folder: Path, source: Source) -> None:
    encoded = [os.fsencode(path) for path in source.paths]
    names = [_digest(os.path.basename(path)) for path in source.paths]
    ends = np.cumsum([len(path) + 1 for path in encoded], dtype=np.int64) - 1
    text = b"".join(path + b"\0" for path in encoded)
    columns: tuple[np.ndarray, ...] = (
        source.labels,
        np.frombuffer(text, np.uint8),
        ends,
        np.array(names, np.uint32),
    )
    for name, column in zip(BESIDE, columns):
        _put(folder / name, column)


def _divided(blocks: Iterable[np.ndarray], plan: Plan, numbers: range) -> Iterator[np.ndarray]:
    """The rows of each shard. Raises RuntimeError where blocks and shards do not end together."""
    coming = iter(blocks)
    left = np.empty((0, plan.dimension), dtype=np.float32)
    for number in numbers:
        rows, filled = np.empty((len(plan.part(number)), plan.dimension), dtype=np.float32), 0
        while filled < len(rows):
            block = left if len(left) else next(coming, left)
            if not len(block):
                raise RuntimeError(f"{len(rows) - filled} rows of shard {number} never came")
            count = min(len(block), len(rows) - filled)
            rows[filled : filled + count], left = block[:count], block[count:]
            filled += count
        yield rows


def _mapped(folder: Path, plan: Plan, number: int) -> np.ndarray:
    rows = np.load(_shard(folder, number), mmap_mode="r")
    if rows.shape != (len(plan.part(number)), plan.dimension) or rows.dtype != np.float32:
        raise ValueError(f"shard {number} is {rows.dtype} of shape {rows.shape}")
    return rows


def _put(path: Path, content: np.ndarray | bytes) -> None:
    """Write a file that is there when it is whole."""
    temporary = durable.temporary_for(path)
    try:
        with open(temporary, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                np.save(file, content, allow_pickle=False)
        durable.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard_{number:05d}.npy"


def _is_ours(name: str) -> bool:
    """Whether a file may be left of a beginning that was interrupted."""
    return name.startswith((*BESIDE, GALLERY))


def _digest(name: str) -> int:
    return zlib.crc32(os.fsencode(name))


def _unwritable(folder: Path, flag: str, error: OSError) -> UserError:
    return UserError(f"{flag} {folder} cannot be written {durable.why(error)} Call again to go on.")


def _foreign(folder: Path, flag: str, error: Exception) -> UserError:
    return UserError(
        f"{flag} {folder} is no folder of embeddings that `python -m programs.embed` made "
        f"({reason(error)})."
    )
