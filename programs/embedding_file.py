"""Files of embeddings: .npz, read by numpy without pickle, and .parquet, read by pyarrow.

Both are written as the embeddings come.
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from programs.constants import EVALTYPES
from utilities import durable
from utilities.errors import UserError, reason

ROWS_AT_ONCE = 8192  # in a group of a Parquet file: readers take whole groups
MOST_CLASSES = 10**7  # a label beyond is none, and a name for each below would fill the memory


class Source(NamedTuple):
    """What the rows of embeddings belong to.

    Attributes:
        paths: N. labels: [N] int64, -1 for an image without class. class_names: C, in the order of
            the labels.
        checkpoint: identity of the network. evaltype: embeds or avg_features.
        images: their fingerprint in JSON, where it is asked later whether they have changed; only
            .npz keeps it.
    """

    paths: Sequence[str]
    labels: np.ndarray
    class_names: list[str]
    checkpoint: str
    evaltype: str
    images: str = ""

    def class_of(self, row: int) -> str | None:
        """The name of a row's class, None where it has none."""
        label = self.labels[row]
        return self.class_names[label] if label >= 0 else None


class FileFormat(NamedTuple):
    """
    Attributes:
        write: file, blocks of rows, their dimension, what they belong to. read: path -> rows and
            what they belong to.
    """

    write: Callable[[BinaryIO, Iterable[np.ndarray], int, Source], None]
    read: Callable[[Path], tuple[np.ndarray, Source]]


def write(path: Path, blocks: Iterable[np.ndarray], dim: int, source: Source, flag: str) -> None:
    """Write rows [B, dim] float32 that come in blocks; whoever reads sees a whole file or none.

    Raises UserError, naming the flag, where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            _format_of(path).write(file, blocks, dim, source)
        durable.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{flag} {path} cannot be written {durable.why(error)}") from error
    finally:
        if temporary.is_file():
            temporary.unlink()


def read(path: Path, flag: str) -> tuple[np.ndarray, Source]:
    """Rows [N, D] float32 and what they belong to.

    Raises UserError, naming the flag, for a file that `write` did not make.
    """
    try:
        rows, source = _format_of(path).read(path)
        _require_rows(rows, source)
        return rows, source
    # numpy, zipfile and pyarrow raise many types for a foreign or damaged file.
    except Exception as error:
        raise UserError(
            f"{flag} {path} is not a file of embeddings that `python -m programs.embed` made "
            f"({reason(error)})."
        ) from error


def _require_rows(rows: np.ndarray, source: Source) -> None:
    """Raises ValueError for what fits together in no file that `write` made."""
    if rows.ndim != 2 or rows.dtype != np.float32:
        raise ValueError(f"its embeddings are {rows.dtype} of shape {rows.shape}")
    labels = source.labels
    if labels.shape != rows.shape[:1] or labels.dtype.kind != "i" or len(source.paths) != len(rows):
        raise ValueError("it has not one path and one label for each embedding")
    if not all(isinstance(text, str) for text in (*source.paths, *source.class_names)):
        raise ValueError("its paths and class names are no texts")
    if len(rows) and not -1 <= labels.min() <= labels.max() < len(source.class_names):
        raise ValueError("it has labels of classes without a name")
    if source.evaltype not in EVALTYPES:
        raise ValueError(f"its embeddings are {source.evaltype[:40]!r}")


def _format_of(path: Path) -> FileFormat:
    """By the ending; whatever does not end in .parquet is taken for .npz."""
    return PARQUET if path.suffix == ".parquet" else NPZ


def _write_npz(file: BinaryIO, blocks: Iterable[np.ndarray], dim: int, source: Source) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(source.paths), dim)}
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for block in blocks:
                member.write(block.astype("<f4").tobytes())
        for name, column in source._asdict().items():
            # An empty list would become an array of floats.
            values = np.asarray(column, dtype=None if len(column) else str)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def _read_npz(path: Path) -> tuple[np.ndarray, Source]:
    with path.open("rb") as start:
        if start.read(4) != b"PK\3\4":  # numpy would advise to open it as a pickle
            raise ValueError("it is no .npz archive")
    with np.load(path, allow_pickle=False) as file:
        source = Source(
            file["paths"].tolist(),
            file["labels"],
            file["class_names"].tolist(),
            str(file["checkpoint"]),
            str(file["evaltype"]),
            str(file["images"]) if "images" in file else "",
        )
        return file["embeddings"], source


def _write_parquet(file: BinaryIO, blocks: Iterable[np.ndarray], dim: int, source: Source) -> None:
    """Columns path, label, class_name (null without class) and embedding."""
    import pyarrow as pa
    from pyarrow import parquet

    _require_text([*source.paths, *source.class_names])
    columns = [
        ("path", pa.string()),
        ("label", pa.int64()),
        ("class_name", pa.string()),
        ("embedding", pa.list_(pa.float32(), dim)),
    ]
    metadata = {"checkpoint": source.checkpoint, "evaltype": source.evaltype}
    schema = pa.schema(columns, metadata=metadata)
    with parquet.ParquetWriter(file, schema) as writer:
        start = 0
        for block in _larger(blocks):
            end = start + len(block)
            labels = source.labels[start:end]
            names = [source.class_of(row) for row in range(start, end)]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dim)
            values = [source.paths[start:end], pa.array(labels, mask=labels < 0), names, vectors]
            writer.write_table(pa.table(values, schema=schema))
            start = end


def _require_text(names: Iterable[str]) -> None:
    """Raises UserError for a name of bytes that are not UTF-8, as of an old archive."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"A .parquet file holds names in UTF-8, which {name!a} is not; "
                "write a .npz file, or rename it."
            ) from error


def _read_parquet(path: Path) -> tuple[np.ndarray, Source]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    numbers = table["embedding"].combine_chunks().flatten().to_numpy()
    rows = numbers.reshape(len(table), -1).copy()  # pyarrow's own memory cannot be written
    labels = table["label"].fill_null(-1).to_numpy()
    if labels.max() >= MOST_CLASSES:
        raise ValueError(f"it has the label {labels.max()}")
    name_of = dict(zip(labels.tolist(), table["class_name"].to_pylist()))
    class_names = [name_of.get(label, "") for label in range(labels.max() + 1)]
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    source = Source(
        table["path"].to_pylist(),
        labels,
        class_names,
        metadata["checkpoint"],
        metadata["evaltype"],
    )
    return rows, source


def _larger(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows in blocks of at least ROWS_AT_ONCE, but for the last."""
    waiting: list[np.ndarray] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= ROWS_AT_ONCE:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


NPZ = FileFormat(_write_npz, _read_npz)
PARQUET = FileFormat(_write_parquet, _read_parquet)
