"""By what data is recognised again, wherever it lies."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

COUNTED = ("images", "classes")


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
        "class names": _digest(class_names),
        "file names": _digest(os.path.relpath(path, shared) for path in paths),
        "file sizes": _digest(str(_size(path)) for path in paths),
        "labels": _digest(map(str, labels.tolist())),
        "boxes": _digest([] if boxes is None else map(str, boxes.tolist())),
    }


def differences(stored: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """What differs between two fingerprints, in words; counts with both values."""
    changed = [name for name in here if stored.get(name, here[name]) != here[name]]
    counts = [f"{stored[name]} {name} (here {here[name]})" for name in changed if name in COUNTED]
    return counts + [f"other {name}" for name in changed if name not in COUNTED]


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1
