"""Embeddings of images to search in: read from a file or made, and asked for the nearest."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.decoding import UNREADABLE, read_rgb
from datasets.images import ImageSplit
from evaluation import figures
from evaluation.faiss_library import library
from evaluation.neighbours import Gallery, nearest
from metrics import COSINE
from programs import embedding_file, images
from programs.constants import DRAWN_QUERIES, SAVED_INDEX
from programs.embedding_file import Source
from programs.trained import Trained
from utilities.errors import UserError

LOG = logging.getLogger("programs.search")
QUERIES_AT_ONCE = 64


class ImageIndex(NamedTuple):
    rows: np.ndarray  # [N, D] float32
    source: Source


class Neighbour(NamedTuple):
    path: str
    similarity: float  # cosine
    class_name: str | None


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
    stored = place / SAVED_INDEX if (place / SAVED_INDEX).is_file() else place
    if stored.is_file():
        return _read(stored, network, "--index")
    split = images.whole(images.below(str(place), "--index"), "--index", loading.on_bad_image)
    saved = save_in / SAVED_INDEX if save_in else None
    if saved and saved.is_file():
        index = _read(saved, network, "--save_index")
        if _is_current(saved, index.source, split.files):
            LOG.info(
                "The %d images of %s have not changed: their embeddings come from %s.",
                len(index.rows),
                place,
                saved,
            )
            return index
        LOG.info(
            "The images of %s have changed since %s was made: they are embedded anew.",
            place,
            saved,
        )
    return _made(network, split, loading, saved)


def search(
    network: Trained, queries: ImageSplit, index: ImageIndex, k: int, loading: Loading
) -> list[list[Neighbour]]:
    """The k nearest images of the index to each query, itself left out."""
    device = network.runtime.device
    rows, source = index
    blocks = network.blocks(
        queries, source.evaltype, batch_size=loading.batch_size, workers=loading.workers
    )
    vectors = torch.from_numpy(np.concatenate(list(blocks))).to(device)
    own_places = torch.tensor(_places(queries.files, source.paths), device=device)
    gallery = Gallery(
        torch.from_numpy(rows).to(device), COSINE, depth=k, use_faiss=library() is not None
    )
    neighbours: list[list[Neighbour]] = []
    for start in range(0, len(vectors), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        distances, places = nearest(gallery, vectors[part], own_places[part], k)
        for row_distances, row_places in zip(distances.tolist(), places.tolist()):
            neighbours.append(_neighbours(source, row_places, row_distances))
    return neighbours


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


def _made(network: Trained, split: ImageSplit, loading: Loading, saved: Path | None) -> ImageIndex:
    source = network.source(split)
    blocks = network.blocks(split, batch_size=loading.batch_size, workers=loading.workers)
    if not saved:
        return ImageIndex(np.concatenate(list(blocks)), source)
    dim = network.dimension(source.evaltype)
    embedding_file.write(saved, blocks, dim, source, "--save_index")
    return _read(saved, network, "--save_index")


def _read(file: Path, network: Trained, flag: str) -> ImageIndex:
    rows, source = embedding_file.read(file, flag)
    if source.checkpoint != network.identity:
        elsewhere = " elsewhere" if flag == "--save_index" else ""
        raise UserError(
            f"{flag} {file} holds embeddings of another checkpoint, whose distances to these would "
            f"mean nothing; use that checkpoint, or make them anew{elsewhere}."
        )
    dim = network.dimension(source.evaltype)
    if rows.shape[1] != dim or not len(rows):
        raise UserError(
            f"{flag} {file} holds {len(rows)} embeddings of {rows.shape[1]} numbers, this "
            f"checkpoint gives {dim}; make them anew."
        )
    if not np.isfinite(rows).all():
        raise UserError(
            f"{flag} {file} holds embeddings that are not finite, whose distances mean nothing; "
            "make them anew with --precision fp32, or of another checkpoint."
        )
    return ImageIndex(rows, source)


def _is_current(saved: Path, source: Source, files: list[str]) -> bool:
    """Whether the index holds these files, none of which was written or put there later."""
    made_at = saved.stat().st_mtime
    return source.paths == files and all(os.stat(file).st_ctime <= made_at for file in files)


def _places(queries: list[str], paths: list[str]) -> list[int]:
    """Where each query stands in the index, -1 for one that is not in it."""
    # Only paths with the name of a query are resolved: each costs a look at the disk.
    names = {os.path.basename(query) for query in queries}
    place_of = {
        os.path.realpath(path): place
        for place, path in enumerate(paths)
        if os.path.basename(path) in names
    }
    return [place_of.get(os.path.realpath(query), -1) for query in queries]


def _neighbours(
    source: Source, places: list[int], squared_distances: list[float]
) -> list[Neighbour]:
    return [
        Neighbour(source.paths[place], 1 - squared / 2, source.class_of(place))
        for place, squared in zip(places, squared_distances)
    ]
