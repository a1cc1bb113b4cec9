"""Files of tensors and arrays that hold something else, or code."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet

from benchmarks.faults.mutations import VALUES, WORDS, damaged, reshaped
from benchmarks.faults.samples import Samples


class Payload:
    """Touches the canary if it is unpickled by a reader that runs what a pickle says."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.canary), "w")


def odd_pickle(random: Random, samples: Samples, state: Any) -> tuple[str, bytes]:
    """What torch.save or pickle made, of a state that is not as it should be."""
    name = random.choice(
        ("payload inside", "payload", "plain pickle", "reshaped", "reshaped", "odd tensors")
    )
    if name == "reshaped":
        name, state = reshaped(random, state, (*VALUES, torch.zeros(3), torch.zeros(0)))
    elif name == "payload inside":
        state["settings" if "settings" in state else "x"] = Payload(samples.canary)
    elif name == "odd tensors":
        name, state = _odd_tensors(random, state)
    if name == "payload":
        return name, pickle.dumps(Payload(samples.canary))
    if name == "plain pickle":
        return name, pickle.dumps({"state_dict": {}, "x": Payload(samples.canary)})
    with io.BytesIO() as buffer:
        torch.save(state, buffer, _use_new_zipfile_serialization=random.random() < 0.8)
        return name, buffer.getvalue()


def _odd_tensors(random: Random, state: Any) -> tuple[str, Any]:
    tensors = [(owner, key) for owner, key in _leaves(state) if torch.is_tensor(owner[key])]
    owner, key = random.choice(tensors)
    value = owner[key]
    changes: dict[str, Callable[[], torch.Tensor]] = {
        "NaN": lambda: torch.full_like(value, float("nan")) if value.is_floating_point() else value,
        "infinite": lambda: value.double() * 1e300 * 1e300,
        "half": lambda: value.half(),
        "complex": lambda: value.to(torch.complex64),
        "boolean": lambda: value.bool(),
        "sparse": lambda: value.to_sparse() if value.ndim else value,
        "meta": lambda: value.to("meta"),
        "of another shape": lambda: value[None],
        "empty": lambda: torch.zeros(0),
        "overlapping": lambda: torch.zeros(1).expand(2**40) if random.random() < 0.5 else value,
    }
    name = random.choice(list(changes))
    owner[key] = changes[name]()
    return f"{key!r:.30} {name}", state


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    pairs: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in pairs:
        inner = isinstance(value, dict | list)
        found += _leaves(value) if inner else [(tree, key)]
    return found


def odd_tensor_file(random: Random, samples: Samples, whole: Path) -> tuple[str, bytes]:
    content = whole.read_bytes()
    if random.random() < 0.5:
        return damaged(random, content, [samples.embeddings.read_bytes()])
    if random.random() < 0.2:
        return _odd_zip(random, content)
    return odd_pickle(random, samples, torch.load(whole, weights_only=True))


def _odd_zip(random: Random, content: bytes) -> tuple[str, bytes]:
    """The members of a zip file anew, one of them other, missing, twice, or a bomb."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = random.choice(list(members))
    change = random.choice(("missing", "a bomb", "damaged", "escaping", "compressed"))
    if change == "missing":
        del members[chosen]
    elif change == "a bomb":
        members[chosen] = bytes(2**28)
    elif change == "damaged":
        members[chosen] = damaged(random, members[chosen])[1]
    elif change == "escaping":
        members["../../escaped"] = members.pop(chosen)
    with io.BytesIO() as buffer:
        stored = zipfile.ZIP_STORED if change in ("missing", "escaping") else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(buffer, "w", stored) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return f"member {chosen.rpartition('/')[2]} {change}", buffer.getvalue()


def odd_safetensors(random: Random, content: bytes) -> tuple[str, bytes]:
    if random.random() < 0.5:
        return damaged(random, content)
    (length,) = struct.unpack("<Q", content[:8])
    mutation, header = reshaped(random, json.loads(content[8 : 8 + length]))
    text = json.dumps(header).encode()
    return mutation, struct.pack("<Q", len(text)) + text + content[8 + length :]


def _odd_npz(random: Random, samples: Samples, content: bytes) -> tuple[str, bytes]:
    if random.random() < 0.3:
        return _odd_zip(random, content)
    with np.load(io.BytesIO(content)) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    name = random.choice(list(arrays))
    whole = arrays[name]
    others: dict[str, Callable[[], object]] = {
        "payload": lambda: np.array([Payload(samples.canary)], dtype=object),
        "objects": lambda: np.array([{"a": 1}, None], dtype=object),
        "shorter": lambda: whole[:-1] if whole.ndim else whole,
        "empty": lambda: np.zeros(0),
        "flat": lambda: whole.ravel(),
        "one": lambda: np.float32(3),
        "negative": lambda: -np.ones(whole.shape, dtype=np.int64),
        "large": lambda: np.full(whole.shape, 10**9),
        "texts": lambda: whole.astype(str),
        "doubles": lambda: np.ones(whole.shape),
        "whole numbers": lambda: np.ones(whole.shape, dtype=np.int8),
        "complex": lambda: np.ones(whole.shape, dtype=np.complex64),
        "big-endian": lambda: whole.astype(whole.dtype.newbyteorder()),
        "wider": lambda: np.concatenate([whole, whole], axis=-1) if whole.ndim else whole,
        "in Fortran's order": lambda: np.asfortranarray(whole),
        "bytes": lambda: np.full(whole.shape, b"\xff"),
        "records": lambda: np.zeros(whole.shape, dtype=[("a", "f4"), ("b", "i8")]),
        "times": lambda: np.zeros(whole.shape, dtype="M8[s]"),
    }
    change = random.choice(list(others))
    arrays[name] = others[change]()
    with io.BytesIO() as buffer:
        np.savez(buffer, **arrays)
        return f"{name} {change}", buffer.getvalue()


def _odd_parquet(random: Random, samples: Samples, content: bytes) -> tuple[str, bytes]:
    table = parquet.read_table(io.BytesIO(content))
    name = random.choice(table.column_names)
    place, count = table.column_names.index(name), len(table)
    others: dict[str, Callable[[], pa.Array]] = {
        "nulls": lambda: pa.nulls(count),
        "texts": lambda: pa.array(["x"] * count),
        "whole numbers": lambda: pa.array([-7] * count),
        "large numbers": lambda: pa.array([10**12] * count),
        "lists of two lengths": lambda: pa.array([[1.0] * (1 + row % 2) for row in range(count)]),
        "lists with nulls": lambda: pa.array([[1.0, None]] * count),
        "lists of texts": lambda: pa.array([["a"]] * count),
        "floats": lambda: pa.array([0.5] * count),
        "bytes": lambda: pa.array([b"\xff"] * count),
        "dictionaries": lambda: pa.array(["x"] * count).dictionary_encode(),
    }
    change = random.choice((*others, "missing", "no rows", "no metadata", "odd metadata", "twice"))
    if change in others:
        table = table.set_column(place, name, others[change]())
    elif change == "missing":
        table = table.drop_columns([name])
    elif change == "twice":
        table = table.append_column(name, table[name])
    elif change == "no rows":
        table = table.slice(0, 0)
    else:
        odd = {b"checkpoint": b"\xff\xfe", b"evaltype": b"x"}
        if random.random() < 0.5:
            odd = {**(table.schema.metadata or {}), b"evaltype": random.choice(WORDS).encode()}
        table = table.replace_schema_metadata(odd if change == "odd metadata" else None)
    with io.BytesIO() as buffer:
        parquet.write_table(table, buffer)
        return f"{name} {change}", buffer.getvalue()


ODD_EMBEDDINGS = {".npz": _odd_npz, ".parquet": _odd_parquet}
