"""The weights in a TorchScript archive, such as the files that OpenAI publishes of CLIP.

They are read without running any of the archive's code, which `torch.jit.load` may do: of its
pickle only tensors, plain values and the tree of modules are built; what else it names is refused.
"""

import pickle
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# What the archive calls its numbers.
STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MODULES = 100_000  # at most
CODE = "constants.pkl"  # which archives of torch.save do not have


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is an archive of torch.jit.save."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(f"/{CODE}") for name in archive.namelist())


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    """All parameters and buffers by their names.

    Raises pickle.UnpicklingError, KeyError or ValueError for a damaged or foreign archive.
    """
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        with archive.open(f"{root}/data.pkl") as file:
            module = _Reader(file, archive, f"{root}/data/").load()
    if not isinstance(module, _Module):
        raise ValueError("it holds no module")
    return dict(_tensors(module))


class _Module:
    """Any class of the archive: attributes, and nothing that it could do."""


class _Reader(pickle._Unpickler):  # that of C takes memory for places that a file only names
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str):
        super().__init__(file)
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch.jit._pickle":
            return _plain
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, identity: Any) -> torch.Tensor:
        _, dtype, key, _, count = identity
        content = bytearray(self.archive.read(f"{self.folder}{key}"))
        return torch.frombuffer(content, dtype=dtype, count=count)


def _view(
    storage: torch.Tensor, offset: int, shape: tuple, strides: tuple, *_: object
) -> torch.Tensor:
    return storage.as_strided(shape, strides, offset)


def _plain(value: object, *_: object) -> object:
    """A list or a mapping of a declared type."""
    return value


def _tensors(root: object) -> Iterator[tuple[str, torch.Tensor]]:
    """Raises ValueError where modules hold each other more often than any network's do."""
    ahead = deque([("", root)])
    for _ in range(MODULES):
        if not ahead:
            return
        prefix, module = ahead.popleft()
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, _Module):
                ahead.append((f"{prefix}{name}.", value))
    raise ValueError(f"it has more than {MODULES:,} modules")
