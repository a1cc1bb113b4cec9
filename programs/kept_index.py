"""Which index a gallery is searched by, its making, keeping and loss."""

import hashlib
import json
import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation import faiss_library, large_search
from evaluation.large_search import Found, Rows
from programs.constants import GALLERY
from programs.page.text import counted
from utilities import durable, memory
from utilities.errors import UserError, reason
from utilities.progress import progress

LOG = logging.getLogger("programs.search")
# Up to here an exact search of many queries takes less than making another index.
FEW_ROWS = 200_000
# Up to here faiss's guidelines advise an exact search where an index is not used again.
FEW_QUERIES = 10_000
# Up to here they advise a graph, beyond it lists.
GRAPH_ROWS = 10**6
CODE_VALUES = 16  # that four bits tell apart, each learned from a row
FORMAT = 2
WITHOUT_QUERIES = 1  # the format that does not say how many queries measured a loss


class Indexing(NamedTuple):
    """How a gallery is searched.

    Attributes:
        kind: of INDEX_KINDS. folder: where an index is kept, if it is. sample: queries that the
            loss is measured with; 0 measures none.
    """

    kind: str = "auto"
    folder: Path | None = None
    sample: int = 256


class Recall(NamedTuple):
    """The share of the nearest that an index finds, and how many queries measured it."""

    share: float
    queries: int


class Known(NamedTuple):
    """What is kept beside an index.

    Attributes:
        gallery: identity of the rows. recipe: of faiss. recalls: by k.
    """

    gallery: str
    recipe: str
    recalls: dict[str, Recall]


class Gallery(NamedTuple):
    """Rows to search in, and a digest by which an index of them is recognised."""

    rows: Rows
    identity: str

    def recipe(self, kind: str) -> str:
        return faiss_library.recipe(kind, self.rows.dimension, len(self.rows))


def identity_of(rows: Rows, origin: Path | None = None) -> str:
    """A digest of the rows themselves, or of what the folder of shards says they are made from."""
    if origin:
        return hashlib.sha256((origin / GALLERY).read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for part in rows.parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def chosen_kind(indexing: Indexing, rows: Rows, queries: int) -> str:
    """flat, ivf, hnsw or pq; where that is not given, by size, memory and use, which is told.

    Raises UserError where faiss is asked for and not installed, or codes of too few rows.
    """
    if indexing.kind != "auto":
        if indexing.kind != "flat":
            faiss_library.required(f"--index_kind {indexing.kind}")
        if indexing.kind == "pq" and len(rows) < CODE_VALUES:
            raise UserError(
                f"--index_kind pq learns its codes from {CODE_VALUES} images or more, of which "
                f"--index has {len(rows)}; take --index_kind flat."
            )
        return indexing.kind
    if len(rows) <= FEW_ROWS:
        if indexing.folder:
            message = "--index_kind auto: flat for %s rows, which needs no index: none is kept."
            LOG.info(message, f"{len(rows):,}")
        return "flat"
    kind, why = _advised(indexing, rows, queries)
    LOG.info("--index_kind auto: %s for %s rows, because %s.", kind, f"{len(rows):,}", why)
    return kind


class OpenIndex:
    """An index that approximates, ready to search the gallery that it is of.

    Args:
        kind: ivf, hnsw or pq.
    """

    def __init__(self, gallery: Gallery, kind: str, use: Indexing):
        self.rows, self.kind, self.use = gallery.rows, kind, use
        index, self.known = _opened(gallery, kind, use.folder)
        self.candidates = partial(faiss_library.candidates, kind, index)

    def find(self, vectors: np.ndarray, own_places: np.ndarray, k: int) -> Found:
        """The k nearest rows to each vector [Q, D], of what the index lists.

        Args:
            own_places: [Q], the row that a query does not find, or -1.
        """
        return large_search.nearest(self.rows, vectors, own_places, k, self.candidates)

    def tell_loss(self, vectors: np.ndarray, own_places: np.ndarray, k: int) -> None:
        """Say which share of the k nearest it finds, as measured now, or by as many before."""
        recall = self.known.recalls.get(str(k), Recall(0.0, queries=0))
        before = " before"
        if recall.queries < _sample_size(self.rows, vectors, self.use.sample):
            recall, before = self._measured(vectors, own_places, k), ""
            known = self.known._replace(recalls={**self.known.recalls, str(k): recall})
            _keep_known(self.kind, known, self.use.folder)
        if recall.queries:
            LOG.info(
                "%s finds %.4f of the %d nearest: it loses %.2f %%, measured%s with %s.",
                self.kind,
                recall.share,
                k,
                100 * (1 - recall.share),
                before,
                counted(recall.queries, "query", "queries"),
            )

    def _measured(self, vectors: np.ndarray, own_places: np.ndarray, k: int) -> Recall:
        """By queries of which it says what they are."""
        sample, places, what = _sample(self.rows, vectors, own_places, self.use.sample)
        truth = large_search.exact(self.rows, sample, places, k)
        LOG.info("%s is compared with an exact search for %s.", self.kind, what)
        return Recall(large_search.recall(self.find(sample, places, k), truth), len(sample))


def made(gallery: Gallery, kind: str) -> faiss_library.RowIndex:
    """An index of all rows. Its training rows are drawn, the same each time."""
    rows = gallery.rows
    count = faiss_library.training_rows(kind, len(rows))
    places = np.random.default_rng(0).choice(len(rows), count, replace=False)
    sample = large_search.unit(rows.take(np.sort(places)))
    index = faiss_library.new_index(kind, rows.dimension, len(rows), sample)
    with progress(None, f"Indexing ({kind})", total=len(rows), unit=" rows") as bar:
        for _, block in rows.units():
            index.add(block)
            bar.update(len(block))
    return index


def _advised(indexing: Indexing, rows: Rows, queries: int) -> tuple[str, str]:
    """The kind of a large gallery, and why."""
    if faiss_library.library() is None:
        return "flat", "faiss is not installed"
    if indexing.folder is None and queries < FEW_QUERIES:
        number = counted(queries, "query", "queries")
        return "flat", f"an index that is not kept (--save_index) is not worth {number}"
    room = memory.free() // 2
    needed = {
        kind: len(rows) * faiss_library.bytes_of_row(kind, rows.dimension)
        for kind in ("hnsw", "ivf", "pq")
    }
    sizes = {kind: f"{size / 1e9:.1f} GB" for kind, size in needed.items()}
    if len(rows) <= GRAPH_ROWS and needed["hnsw"] <= room:
        return "hnsw", f"its {sizes['hnsw']} fit into half of the free memory"
    if needed["ivf"] <= room:
        return "ivf", f"its {sizes['ivf']} fit into half of the free memory"
    return "pq", f"the rows' {sizes['ivf']} do not fit into half of the free memory, its codes do"


def _opened(
    gallery: Gallery, kind: str, folder: Path | None
) -> tuple[faiss_library.RowIndex, Known]:
    """The index that is kept, where it is of these rows, or a new one, which then is kept."""
    known = Known(gallery.identity, gallery.recipe(kind), {})
    if folder and (kept := _kept(kind, known, folder)):
        return kept
    LOG.info("The %s index is made (%s).", kind, known.recipe)
    index = made(gallery, kind)
    if folder:
        _keep(kind, index, known, folder)
    return index, known


def _kept(kind: str, known: Known, folder: Path) -> tuple[faiss_library.RowIndex, Known] | None:
    """None where there is no index, or one of other rows or of another recipe."""
    file, beside = _files(kind, folder)
    if not file.is_file() or not beside.is_file():
        return None
    try:
        before = _read_known(beside)
        if before._replace(recalls={}) != known:
            LOG.info("%s is of other embeddings: the index is made anew.", file)
            return None
        index = faiss_library.read_index(file)
    except (OSError, ValueError, TypeError, KeyError) as error:
        LOG.info("%s cannot be read (%s): the index is made anew.", file, reason(error))
        return None
    LOG.info("The %s index comes from %s.", kind, file)
    return index, before


def _read_known(beside: Path) -> Known:
    """What is kept beside an index; raises OSError, ValueError, TypeError or KeyError."""
    stored = json.loads(beside.read_text())
    version = stored["format"]
    if version not in (WITHOUT_QUERIES, FORMAT):
        raise ValueError("it is of another version")
    recalls = {} if version == WITHOUT_QUERIES else dict(stored["recalls"])
    return Known(
        str(stored["gallery"]),
        str(stored["recipe"]),
        {k: Recall(float(share), int(queries)) for k, (share, queries) in recalls.items()},
    )


def _keep(kind: str, index: faiss_library.RowIndex, known: Known, folder: Path) -> None:
    file, beside = _files(kind, folder)
    temporary = durable.temporary_for(file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        faiss_library.write_index(index, temporary)
        durable.replace(temporary, file)
    except OSError as error:
        raise UserError(f"--save_index {file} cannot be written {durable.why(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
    _keep_known(kind, known, folder)


def _keep_known(kind: str, known: Known, folder: Path | None) -> None:
    if folder is None:
        return
    _, beside = _files(kind, folder)
    with durable.written(beside, f"--save_index {beside}") as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **known._asdict()}, indent=1))


def _files(kind: str, folder: Path) -> tuple[Path, Path]:
    """Of an index, and of what is known of it."""
    return folder / f"{kind}.faiss", folder / f"{kind}.json"


def _sample_size(rows: Rows, vectors: np.ndarray, asked: int) -> int:
    """How many queries measure a loss: of the gallery, if few ask, and no more than it has."""
    return asked if len(vectors) >= asked else min(asked, len(rows))


def _sample(
    rows: Rows, vectors: np.ndarray, own_places: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Queries to measure with, their own rows, and what they are: of the gallery if few ask."""
    random = np.random.default_rng(0)
    if len(vectors) >= count:
        drawn = random.choice(len(vectors), count, replace=False)
        return vectors[drawn], own_places[drawn], f"{count} of the queries"
    count = _sample_size(rows, vectors, count)
    places = np.sort(random.choice(len(rows), count, replace=False))
    return rows.take(places), places, f"{count} images of the gallery"
