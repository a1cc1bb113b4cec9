"""Files of torch.save, read so that none of them can run code."""

import os
import re
import warnings
from typing import Any

import torch

GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read(path: str | os.PathLike) -> Any:
    """The tensors and plain values in a file, on the CPU.

    Raises ValueError for what asks for anything else and for damaged files, OSError for those that
    cannot be opened, and RuntimeError or MemoryError where the memory is short.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old or odd pickles, which are refused or read
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
