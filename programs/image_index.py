"""Embeddings of images to search in: read from a file or made, and asked for the nearest."""

import json
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.decoding import UNREADABLE, read_rgb
from datasets.images import ImageSplit
from evaluation import figures, large_refinement, large_search, refinement
from evaluation.faiss_library import library
from evaluation.large_refinement import Find
from evaluation.large_search import Found, Rows
from evaluation.neighbours import Gallery
from evaluation.refinement import Expansion
from metrics import COSINE
from programs import embedding_file, images, kept_index, shards
from programs.constants import DRAWN_QUERIES, GALLERY, SAVED_INDEX
from programs.embedding_file import Source
from programs.kept_index import Indexing
from programs.trained import Trained
from utilities.errors import UserError
from utilities.fingerprint import differences

LOG = logging.getLogger("programs.search")
QUERIES_AT_ONCE = 64
AS_IT_WAS = "%s: the index is searched as it was made."
FEW_SHARDED = 2**18  # rows of shards that are searched in memory


class ImageIndex(NamedTuple):
    """
    Attributes:
        rows: [N, D] float32. source: what they belong to. folder: of the shards, if they are in
            some.
    """

    rows: Rows
    source: Source
    folder: Path | None = None

    def is_small(self) -> bool:
        """Whether it is in memory, or may be."""
        return self.folder is None or len(self.rows) <= FEW_SHARDED


class Neighbour(NamedTuple):
    path: str
    similarity: float  # cosine
    class_name: str | None


class Refining(NamedTuple):
    """How a search is made again with what was found first; re-ranked is what was expanded."""

    expansion: Expansion = Expansion(0)
    rerank: bool = False


PLAIN = Refining()


class Loading(NamedTuple):
    """How images are read, as the flags of the same names say."""

    batch_size: int
    workers: int
    on_bad_image: str


def open_index(
    network: Trained, place: Path, loading: Loading, save_in: Path | None = None
) -> ImageIndex:
    """The embeddings at a place, or of the images below it, kept in `save_in` where that is given.

    Raises UserError for an index of another network.
    """
    if (place / GALLERY).is_file():
        return _read_shards(place, network)
    stored = place / SAVED_INDEX if (place / SAVED_INDEX).is_file() else place
    if stored.is_file():
        index = _read(stored, network, "--index")
        _tell_of_changes(network, index.source, stored)
        return index
    split = images.whole(images.below(str(place), "--index"), "--index", loading.on_bad_image)
    if save_in:
        return _kept(network, split, loading, place, save_in / SAVED_INDEX)
    blocks = network.blocks(split, batch_size=loading.batch_size, workers=loading.workers)
    return ImageIndex(Rows([np.concatenate(list(blocks))]), network.source(split))


def search(
    network: Trained,
    queries: ImageSplit,
    index: ImageIndex,
    k: int,
    loading: Loading,
    indexing: Indexing,
    refining: Refining = PLAIN,
) -> list[list[Neighbour]]:
    """The k nearest images of the index to each query, itself left out."""
    rows, source, folder = index
    blocks = network.blocks(
        queries, source.evaltype, batch_size=loading.batch_size, workers=loading.workers
    )
    vectors = np.concatenate(list(blocks))
    own_places = np.array(_places(queries.files, source.paths))
    if folder is None and indexing.kind == "auto":
        indexing = indexing._replace(kind="flat")
    find = _finder(network.runtime.device, index, indexing, vectors, own_places, k)
    found = _refined(find, rows, vectors, own_places, k, refining)
    return [
        _neighbours(source, places[places >= 0].tolist(), squared[places >= 0].tolist())
        for squared, places in zip(found.squared, found.places)
    ]


def _finder(
    device: torch.device,
    index: ImageIndex,
    indexing: Indexing,
    vectors: np.ndarray,
    own_places: np.ndarray,
    k: int,
) -> Find:
    """What searches, of which it is told what it misses."""
    rows, _, folder = index
    kind = kept_index.chosen_kind(indexing, rows, len(vectors))
    if kind == "flat" and index.is_small():
        whole = rows.whole()
        large_search.require_finite(whole)
        gallery = torch.from_numpy(whole).to(device)
        return partial(_search_whole, gallery)
    if kind == "flat":
        return partial(large_search.exact, rows)
    identified = kept_index.Gallery(rows, kept_index.identity_of(rows, folder))
    opened = kept_index.OpenIndex(identified, kind, indexing)
    opened.tell_loss(vectors, own_places, k)
    return opened.find


def _refined(
    find: Find, rows: Rows, vectors: np.ndarray, own_places: np.ndarray, k: int, refining: Refining
) -> Found:
    """What queries find; by distance to the queries as they are, whatever orders it."""
    asked = vectors
    if refining.expansion.neighbours:
        asked = large_refinement.asked_again(find, rows, vectors, own_places, refining.expansion)
    if refining.rerank:
        found = large_refinement.reranked(find, rows, asked, own_places, k)
    else:
        found = find(asked, own_places, k)
    if refining == PLAIN:
        return found
    squared = large_search.squared_distances(rows, vectors, found.places)
    return found._replace(squared=squared)


def _search_whole(rows: torch.Tensor, vectors: np.ndarray, own_places: np.ndarray, k: int) -> Found:
    """Exactly, among rows [N, D] that memory holds."""
    gallery = Gallery(rows, COSINE, depth=k, use_faiss=library() is not None)
    queries, own = (torch.from_numpy(part).to(rows.device) for part in (vectors, own_places))
    blocks = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        blocks.append(refinement.nearest_of_all(gallery, queries[part], own[part], k))
    return Found(*(torch.cat(parts).cpu().numpy() for parts in zip(*blocks)))


def draw(file: Path, queries: list[str], neighbours: list[list[Neighbour]]) -> None:
    """The picture of the first queries, each beside its neighbours.

    Raises UserError for an image that is no longer there, or a picture that cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn = zip(queries[:DRAWN_QUERIES], neighbours)
        figures.draw_panels(file, [_panel(query, nearest_ones) for query, nearest_ones in drawn])
    except UNREADABLE as error:
        raise UserError(f"--picture {file}: it cannot be drawn ({error}).") from error


def _panel(query: str, neighbours: list[Neighbour]) -> figures.Panel:
    shown = figures.Thumbnail(read_rgb(query), Path(query).name, figures.QUERY)
    thumbnails = []
    for path, similarity, class_name in neighbours:
        name = class_name or Path(path).name
        thumbnails.append(figures.Thumbnail(read_rgb(path), name, figures.UNKNOWN, similarity))
    return figures.Panel("", shown, thumbnails)


def _kept(
    network: Trained, split: ImageSplit, loading: Loading, place: Path, saved: Path
) -> ImageIndex:
    """The embeddings of the images at a place as they are saved, or made anew and saved."""
    # Taken first, so that an image that is written while it is embedded has changed the next time.
    fingerprint = _fingerprint(network, split)
    if saved.is_file():
        index = _read(saved, network, "--save_index")
        if not (why := _why_not_current(index.source, fingerprint, split.files, place, saved)):
            LOG.info(
                "The %d images of %s have not changed: their embeddings come from %s.",
                len(index.rows),
                place,
                saved,
            )
            return index
        LOG.info("%s: the images are embedded anew.", why)
    source = network.source(split)._replace(images=json.dumps(fingerprint))
    blocks = network.blocks(split, batch_size=loading.batch_size, workers=loading.workers)
    dim = network.dimension(source.evaltype)
    embedding_file.write(saved, blocks, dim, source, "--save_index")
    return _read(saved, network, "--save_index")


def _read(file: Path, network: Trained, flag: str) -> ImageIndex:
    rows, source = embedding_file.read(file, flag)
    _require_of(network, source, rows.shape, f"{flag} {file}", elsewhere=flag == "--save_index")
    if not large_search.comparable(rows).all():
        raise UserError(
            f"{flag} {file} holds embeddings that are not finite, or too large for distances; "
            "make them anew with --precision fp32, or of another checkpoint."
        )
    return ImageIndex(Rows([rows]), source)


def _read_shards(folder: Path, network: Trained) -> ImageIndex:
    rows, source, origin = shards.read(folder, "--index")
    _require_of(network, source, (len(rows), rows.dimension), f"--index {folder}")
    if origin.precision != network.runtime.precision:
        LOG.info(AS_IT_WAS, f"{folder} was made with --precision {origin.precision}")
    return ImageIndex(rows, source, folder)


def _require_of(
    network: Trained,
    source: Source,
    shape: tuple[int, ...],
    what: str,
    *,
    elsewhere: bool = False,
) -> None:
    """Raises UserError for rows of a shape [N, D] that the network did not make."""
    if source.checkpoint != network.identity:
        where = " elsewhere" if elsewhere else ""
        raise UserError(
            f"{what} holds embeddings of another checkpoint, whose distances to these would "
            f"mean nothing; use that checkpoint, or make them anew{where}."
        )
    dim = network.dimension(source.evaltype)
    if shape[1] != dim or not shape[0]:
        raise UserError(
            f"{what} holds {shape[0]} embeddings of {shape[1]} numbers, this "
            f"checkpoint gives {dim}; make them anew."
        )


def _fingerprint(network: Trained, split: ImageSplit) -> dict[str, int | str]:
    """Of the images, and of how they are embedded."""
    return {**images.fingerprint_here(split), "precision": network.runtime.precision}


def _tell_of_changes(network: Trained, source: Source, saved: Path) -> None:
    """Say where the images of an index are not what they were: it is searched all the same."""
    if not source.images:  # a file of embeddings, or an index of an older version
        return
    split = ImageSplit(list(source.paths), source.labels, source.class_names)
    try:
        fingerprint = _fingerprint(network, split)
        place = Path(str(fingerprint["folder"]))
        why = _why_not_current(source, fingerprint, split.files, place, saved)
    except UserError as error:
        why = str(error).removesuffix(".")
    if why:
        LOG.info(AS_IT_WAS, why)


def _why_not_current(
    source: Source, fingerprint: dict[str, int | str], files: list[str], place: Path, saved: Path
) -> str:
    """Why the index may not hold these files as they are now, as a sentence; "" where it does."""
    if not source.images:
        return f"{saved} is of an older version and does not say by what its images are recognised"
    before, precision = json.loads(source.images), fingerprint["precision"]
    if (other := before.get("precision", precision)) != precision:
        return f"{saved} was made with --precision {other}"
    changed = differences(before, fingerprint)
    # Of many files a fingerprint holds the content of some, and times of writing can be set.
    made_at = saved.stat().st_mtime
    if not changed and any(os.stat(file).st_ctime > made_at for file in files):
        changed = ["files that were put there later"]
    told = f"The images of {place} have changed since {saved} was made ({', '.join(changed)})"
    return told if changed else ""


def _places(queries: list[str], paths: Sequence[str]) -> list[int]:
    """Where each query stands in the index, -1 for one that is not in it."""
    # Only paths with the name of a query are resolved: each costs a look at the disk.
    names = {os.path.basename(query) for query in queries}
    if isinstance(paths, shards.Paths):
        may_be = paths.named(names)
    else:
        may_be = [place for place, path in enumerate(paths) if os.path.basename(path) in names]
    # A link is a copy of what it leads to: of several such, the one that the query names is itself.
    place_of = {os.path.realpath(paths[place]): place for place in may_be}
    named = {os.path.abspath(paths[place]): place for place in may_be}
    return [
        named.get(os.path.abspath(query), place_of.get(os.path.realpath(query), -1))
        for query in queries
    ]


def _neighbours(
    source: Source, places: list[int], squared_distances: list[float]
) -> list[Neighbour]:
    return [
        Neighbour(source.paths[place], 1 - squared / 2, source.class_of(place))
        for place, squared in zip(places, squared_distances)
    ]
