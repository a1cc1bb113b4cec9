"""By what data is recognised again, wherever it lies, and files that were read once."""

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

COUNTED = ("images", "classes")
SAMPLED = 64  # bytes: of compressed data hardly any two files have the same
LOOKED_INTO = 1000  # of many files, spread evenly: on a slow disk each takes longer than its size


def fingerprint(
    files: Sequence[str],
    labels: np.ndarray,
    class_names: Sequence[str],
    boxes: np.ndarray | None = None,
) -> dict[str, int | str]:
    """Counts and digests of what a split holds; paths count from the folder that all are in."""
    paths = [os.path.abspath(file) for file in files]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return {
        "images": len(files),
        "classes": len(class_names),
        "class names": digest(class_names),
        "file names": digest(os.path.relpath(path, shared) for path in paths),
        "file sizes": digest(str(_size(path)) for path in paths),
        "file contents": digest(_content(paths[row]) for row in _looked_into(paths)),
        "labels": digest(map(str, labels.tolist())),
        "boxes": digest([] if boxes is None else map(str, boxes.tolist())),
    }


def differences(stored: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """What differs between two fingerprints, in words; counts with both values."""
    changed = [name for name in here if stored.get(name, here[name]) != here[name]]
    counts = [f"{stored[name]} {name} (here {here[name]})" for name in changed if name in COUNTED]
    return counts + [f"other {name}" for name in changed if name not in COUNTED]


def stamps(paths: Sequence[str | os.PathLike[str]]) -> list[tuple[int, int, str]]:
    """What changes with the content of files: size, time of change, bytes of some of them.

    Archives may give all their files one time, and formats without compression one size. Raises
    OSError for a file that cannot be read.
    """
    looked_into = _looked_into(paths)
    stamps = []
    for row, path in enumerate(paths):
        status = os.stat(path)
        content = _sample(path) if row in looked_into else ""
        stamps.append((status.st_size, status.st_mtime_ns, content))
    return stamps


def contents(path: Path) -> list[tuple[str, int, str]]:
    """Name, size and some bytes of a file, or of all below a folder: the same wherever it lies."""
    return [
        (str(file.relative_to(path)), _size(file), _content(file)) for file in files_below(path)
    ]


def files_below(path: Path) -> list[Path]:
    """The file, or all below a folder, through links too; no folder is entered twice."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    found: list[Path] = []
    entered: set[str] = set()
    for folder, inner, names in os.walk(path, followlinks=True):
        place = os.path.realpath(folder)
        if place in entered:  # a link that leads back, say
            inner.clear()
            continue
        entered.add(place)
        inner.sort()
        found += [Path(folder, name) for name in names]
    return sorted(file for file in found if file.is_file())


def _looked_into(paths: Sequence[str | os.PathLike[str]]) -> range:
    """The rows of the files whose content is compared."""
    return range(0, len(paths), max(1, math.ceil(len(paths) / LOOKED_INTO)))


def _sample(path: str | os.PathLike[str]) -> str:
    """The bytes in the middle and at the end of a file, in hexadecimal."""
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        places = size // 2, max(0, size - SAMPLED)
        return " ".join(os.pread(file, SAMPLED, place).hex() for place in places)
    finally:
        os.close(file)


def _content(path: str | os.PathLike[str]) -> str:
    try:
        return _sample(path)
    except OSError:
        return ""


def digest(texts: Iterable[str]) -> str:
    gathered = hashlib.sha256()
    for text in texts:
        gathered.update(text.encode(errors="surrogateescape") + b"\0")
    return gathered.hexdigest()


def _size(path: str | os.PathLike[str]) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1
