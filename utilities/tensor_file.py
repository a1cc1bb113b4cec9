"""Files of torch.save, read so that none of them can run code."""

import os
import re
import warnings
import zipfile
from typing import Any

import torch

GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read(path: str | os.PathLike, *, whole: bool = False) -> Any:
    """The tensors and plain values in a file, on the CPU.

    Args:
        whole: hold each tensor against its checksum, which torch writes and does not read.
    Raises:
        ValueError: it asks for anything else, or is damaged. OSError: it cannot be opened.
        RuntimeError, MemoryError: the memory is short.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old or odd pickles, which are refused or read
            if whole:
                _require_checksums(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # many types for a damaged pickle or zip
        if isinstance(error, RuntimeError) and "allocate" in str(error):
            raise  # the memory is short, and the file may be whole
        # torch's own sentence advises to read the file without this care.
        asked = GLOBAL.search(str(error))
        what = f"it asks for {asked[1]}" if asked else "it is damaged, or not of torch.save"
        raise ValueError(f"{what}; only tensors and plain values are read") from error


def _require_checksums(path: str | os.PathLike) -> None:
    """Raises ValueError for damage within a zip file, as which torch.save writes since 1.6."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is not as it was written")
