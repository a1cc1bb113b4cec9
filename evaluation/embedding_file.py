"""Files of embeddings: .npz, read by numpy without pickle, and .parquet, read by pyarrow. Both are written as the embeddings come."""

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utilities.errors import UserError, reason

SUFFIXES = (".npz", ".parquet")
ROWS_AT_ONCE = 8192  # in a group of a Parquet file: readers take whole groups


class Source(NamedTuple):
    """What the rows of embeddings belong to.

    Attributes:
        paths: N. labels: [N] int64, -1 for an image without class. class_names: C, in the order of
            the labels.
        checkpoint: identity of the network. evaltype: embeds or avg_features.
    """

    paths: list[str]
    labels: np.ndarray
    class_names: list[str]
    checkpoint: str
    evaltype: str


def write(path: Path, blocks: Iterable[np.ndarray], dim: int, source: Source, flag: str) -> None:
    """Write rows [B, dim] float32 that come in blocks; whoever reads sees a whole file or none. Raises UserError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            (_write_parquet if path.suffix == ".parquet" else _write_npz)(file, blocks, dim, source)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{flag} {path} cannot be written ({error.strerror or reason(error)})."
        ) from error
    finally:
        if temporary.is_file():
            temporary.unlink()


def read(path: Path, flag: str) -> tuple[np.ndarray, Source]:
    """Rows [N, D] float32 and what they belong to. Raises UserError for a file that `write` did not make."""
    try:
        return (_read_parquet if path.suffix == ".parquet" else _read_npz)(path)
    except (
        Exception
    ) as error:  # numpy, zipfile and pyarrow raise many types for a foreign or damaged file
        raise UserError(
            f"{flag} {path} is not a file of embeddings that `python -m evaluation.embed` made ({reason(error)})."
        ) from error


def _write_npz(file, blocks: Iterable[np.ndarray], dim: int, source: Source) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": (len(source.paths), dim)}
            )
            for block in blocks:
                member.write(block.astype("<f4").tobytes())
        for name, column in source._asdict().items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member,
                    np.asarray(column, dtype=None if len(column) else str),
                    allow_pickle=False,
                )


def _read_npz(path: Path) -> tuple[np.ndarray, Source]:
    with np.load(path, allow_pickle=False) as file:
        return file["embeddings"], Source(
            file["paths"].tolist(),
            file["labels"],
            file["class_names"].tolist(),
            str(file["checkpoint"]),
            str(file["evaltype"]),
        )


def _write_parquet(file, blocks: Iterable[np.ndarray], dim: int, source: Source) -> None:
    """Columns path, label, class_name (null without class) and embedding."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [
            ("path", pa.string()),
            ("label", pa.int64()),
            ("class_name", pa.string()),
            ("embedding", pa.list_(pa.float32(), dim)),
        ],
        metadata={"checkpoint": source.checkpoint, "evaltype": source.evaltype},
    )
    with parquet.ParquetWriter(file, schema) as writer:
        start = 0
        for block in _larger(blocks):
            part = slice(start, start := start + len(block))
            labels = source.labels[part]
            names = [source.class_names[label] if label >= 0 else None for label in labels.tolist()]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dim)
            writer.write_table(
                pa.table(
                    [source.paths[part], pa.array(labels, mask=labels < 0), names, vectors],
                    schema=schema,
                )
            )


def _read_parquet(path: Path) -> tuple[np.ndarray, Source]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    embeddings = table["embedding"].combine_chunks()
    labels = table["label"].fill_null(-1).to_numpy()
    names = dict(zip(labels.tolist(), table["class_name"].to_pylist()))
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    return (
        embeddings.flatten()
        .to_numpy()
        .reshape(len(table), -1)
        .copy(),  # pyarrow's own memory cannot be written
        Source(
            table["path"].to_pylist(),
            labels,
            [names.get(label, "") for label in range(labels.max() + 1)],
            metadata["checkpoint"],
            metadata["evaltype"],
        ),
    )


def _larger(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows in blocks of at least ROWS_AT_ONCE, but for the last."""
    held: list[np.ndarray] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= ROWS_AT_ONCE:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
