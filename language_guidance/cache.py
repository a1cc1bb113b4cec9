"""Tensors on disk by a hash of all that they depend on.

Nothing is computed twice, and nothing goes stale.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from utilities import durable, processes, tensor_file
from utilities.errors import UserError

LOG = logging.getLogger(__name__)


def digest(*parts: object) -> str:
    """One hash of plain values, lists of them, and files (as `Path`, by content)."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(_bytes(part)).digest())
    return whole.hexdigest()[:32]


def remember(
    folder: Path,
    kind: str,
    key: str,
    compute: Callable[[], torch.Tensor],
    *,
    shape: tuple[int | None, ...],
) -> torch.Tensor:
    """The tensor stored as `<folder>/<kind>-<key>.pt`, else computed and stored.

    It is computed anew where the file cannot be read or holds anything but a tensor of `shape`, in
    which None stands for any size. Of several processes the first reads and writes for all.
    """
    path = folder / f"{kind}-{key}.pt"
    stored = processes.from_main(_read, path, shape)
    if stored is not None:
        return stored
    value = compute()
    if processes.is_main():
        _write(path, value)
    return value


def _read(path: Path, shape: tuple[int | None, ...]) -> torch.Tensor | None:
    try:
        value = tensor_file.read(path, whole=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file is no reason to stop: torch raises many types here
        problem = f"cannot be read ({type(error).__name__})"
    else:
        if _has_shape(value, shape):
            return value
        problem = "holds something else"
    LOG.warning("The cached %s %s and is computed anew.", path, problem)
    return None


def _has_shape(value: object, shape: tuple[int | None, ...]) -> bool:
    if not isinstance(value, torch.Tensor) or value.ndim != len(shape):
        return False
    return all(size in (None, actual) for size, actual in zip(shape, value.shape))


def _write(path: Path, value: torch.Tensor) -> None:
    """Under a temporary name first; a folder that cannot be written only gives a warning."""
    try:
        with durable.written(path, f"--cache_path: {path}") as temporary:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(value, temporary)
    except UserError as error:
        LOG.warning("%s The next run computes it again.", error)


def _bytes(part: object) -> bytes:
    if not isinstance(part, Path):
        return repr(part).encode()
    with part.open("rb") as file:
        if hasattr(hashlib, "file_digest"):  # from Python 3.11 on
            return hashlib.file_digest(file, "sha256").digest()
        return hashlib.sha256(file.read()).digest()
