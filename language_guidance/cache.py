"""Tensors on disk by a hash of all that they depend on, so that nothing is computed twice and nothing goes stale."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch

from utilities.errors import reason

LOG = logging.getLogger(__name__)


def digest(*parts: object) -> str:
    """One hash of plain values, lists of them, and files (as `Path`, by content)."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(_bytes(part)).digest())
    return whole.hexdigest()[:32]


def remember(
    folder: Path, kind: str, key: str, compute: Callable[[], torch.Tensor]
) -> torch.Tensor:
    """The tensor stored as `<folder>/<kind>-<key>.pt`, computed and stored if it is not there or not readable."""
    path = folder / f"{kind}-{key}.pt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        pass
    except Exception as error:  # a damaged file is no reason to stop: torch raises many types here
        LOG.warning(
            "The cached %s cannot be read (%s) and is computed anew.", path, type(error).__name__
        )
    value = compute()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(value, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        LOG.warning(
            "--cache_path: %s cannot be written (%s); the next run computes it again.",
            path,
            reason(error),
        )
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return value


def _bytes(part: object) -> bytes:
    if isinstance(part, Path):
        with part.open("rb") as file:
            return (
                hashlib.file_digest(file, "sha256").digest()
                if hasattr(hashlib, "file_digest")
                else hashlib.sha256(file.read()).digest()
            )
    return repr(part).encode()
