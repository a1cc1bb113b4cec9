"""Nearest images to a query, by the network of a checkpoint.

python -m evaluation.search RUN_FOLDER --index PHOTOS --query new.jpg --save_index photos.index
--picture found.png python -m evaluation.search RUN_FOLDER --index photos.index --query new.jpg
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.decoding import UNREADABLE, read_rgb
from datasets.images import ImageSplit
from evaluation import command_line, embedding_file, figures, trained
from evaluation.embedding_file import Source
from evaluation.faiss_library import library
from evaluation.neighbours import Gallery, nearest
from metrics import COSINE
from utilities.errors import UserError
from utilities.runtime import select_device

LOG = logging.getLogger("evaluation.search")
SAVED = "embeddings.npz"  # in a saved index; an exact flat index is its rows
QUERIES_AT_ONCE = 64
DRAWN = 25  # queries in a picture


class Neighbour(NamedTuple):
    path: str
    similarity: float  # cosine
    class_name: str | None


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file, 130 interrupted."""
    return command_line.run("search", run, parse(argv))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.build_parser(
        "search",
        "Find the images most similar to each query, by cosine similarity of embeddings, and print them as JSON. "
        "A query that lies in the index itself is left out of its own neighbours; copies of it under other names are found.",
    )
    parser.add_argument(
        "--index",
        metavar="FOLDER|FILE",
        required=True,
        help="Where to search: a folder of images, a folder that --save_index made, or a file that evaluation.embed made.",
    )
    parser.add_argument(
        "--query", metavar="IMAGE", nargs="+", required=True, help="Images, or folders of images."
    )
    parser.add_argument(
        "--k",
        type=command_line.at_least(1),
        default=10,
        help="Neighbours of each query (%(default)s).",
    )
    parser.add_argument(
        "--save_index",
        metavar="DIR",
        type=Path,
        help="Keep the embeddings of the --index folder there. They are taken from there while the images and the checkpoint stay the same.",
    )
    parser.add_argument(
        "--picture",
        metavar="FILE.png",
        type=Path,
        help=f"Draw each query, of many the first {DRAWN}, beside its neighbours.",
    )
    command_line.add_embedding_flags(parser)
    flags = parser.parse_args(argv)
    if flags.save_index and not os.path.isdir(flags.index):
        parser.error("argument --save_index: --index must be a folder of images")
    if flags.picture and flags.picture.suffix != ".png":
        parser.error(f"argument --picture: {flags.picture} must end in .png")
    return flags


def run(flags: argparse.Namespace) -> None:
    """Open or make the index, embed the queries, search, draw, print."""
    queries = trained.whole(
        trained.unlabelled(trained.files_at(flags.query, "--query")), "--query", flags.on_bad_image
    )
    network = trained.load(flags.checkpoint, select_device(flags.device, flags.gpu))
    rows, source = open_index(network, flags)
    found = search(network, queries, rows, source, flags)
    if flags.picture:
        draw(flags.picture, queries.files, found)
        LOG.info("Drawn: %s", flags.picture)
    print(
        json.dumps(
            [
                {"query": query, "neighbours": list(map(_as_json, neighbours))}
                for query, neighbours in zip(queries.files, found)
            ],
            indent=1,
        )
    )


def open_index(network: trained.Trained, flags: argparse.Namespace) -> tuple[np.ndarray, Source]:
    """Embeddings [N, D] and their `Source`, read or made. Raises UserError for an index of another network."""
    place = Path(flags.index).expanduser()
    stored = place / SAVED if (place / SAVED).is_file() else place
    if stored.is_file():
        return _read(stored, network, "--index")
    images = trained.whole(
        trained.images_below(flags.index, "--index"), "--index", flags.on_bad_image
    )
    kept = flags.save_index / SAVED if flags.save_index else None
    if kept and kept.is_file():
        rows, source = _read(kept, network, "--save_index")
        if _is_current(kept, source, images.files):
            LOG.info(
                "The %d images of %s have not changed: their embeddings come from %s.",
                len(rows),
                flags.index,
                kept,
            )
            return rows, source
        LOG.info(
            "The images of %s have changed since %s was made: they are embedded anew.",
            flags.index,
            kept,
        )
    return _embed(network, images, kept, flags)


def search(
    network: trained.Trained,
    queries: ImageSplit,
    rows: np.ndarray,
    source: Source,
    flags: argparse.Namespace,
) -> list[list[Neighbour]]:
    """The nearest of the index to each query."""
    blocks = trained.embed(
        network,
        queries,
        evaltype=source.evaltype,
        batch_size=flags.bs,
        workers=flags.kernels,
        precision=flags.precision,
    )
    asked, own = (
        torch.from_numpy(np.concatenate(list(blocks))).to(network.device),
        torch.tensor(_places(queries.files, source.paths), device=network.device),
    )
    gallery = Gallery(
        torch.from_numpy(rows).to(network.device),
        COSINE,
        depth=flags.k,
        use_faiss=library() is not None,
    )
    found: list[list[Neighbour]] = []
    for vectors, themselves in zip(asked.split(QUERIES_AT_ONCE), own.split(QUERIES_AT_ONCE)):
        for squared, places in zip(
            *(part.tolist() for part in nearest(gallery, vectors, themselves, flags.k))
        ):
            found.append(
                [_neighbour(source, place, distance) for place, distance in zip(places, squared)]
            )
    return found


def draw(file: Path, queries: list[str], found: list[list[Neighbour]]) -> None:
    """The picture of all queries. Raises UserError for an image that is no longer there, or a picture that cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figures.draw_panels(
            file,
            [
                figures.Panel(
                    "",
                    figures.Thumbnail(read_rgb(query), Path(query).name, figures.QUERY),
                    [
                        figures.Thumbnail(
                            read_rgb(path),
                            f"{similarity:.2f}  {name or Path(path).name}",
                            figures.UNKNOWN,
                        )
                        for path, similarity, name in neighbours
                    ],
                )
                for query, neighbours in zip(queries[:DRAWN], found)
            ],
        )
    except UNREADABLE as error:
        raise UserError(f"--picture {file}: it cannot be drawn ({error}).") from error


def _embed(
    network: trained.Trained, images: ImageSplit, kept: Path | None, flags: argparse.Namespace
) -> tuple[np.ndarray, Source]:
    blocks, source = (
        trained.embed(
            network, images, batch_size=flags.bs, workers=flags.kernels, precision=flags.precision
        ),
        trained.source(network, images),
    )
    if not kept:
        return np.concatenate(list(blocks)), source
    embedding_file.write(
        kept, blocks, trained.dimension(network, source.evaltype), source, "--save_index"
    )
    return _read(kept, network, "--save_index")


def _read(file: Path, network: trained.Trained, flag: str) -> tuple[np.ndarray, Source]:
    rows, source = embedding_file.read(file, flag)
    if source.checkpoint != network.identity:
        raise UserError(
            f"{flag} {file} holds embeddings of another checkpoint, whose distances to these would mean nothing; "
            f"use that checkpoint, or make them anew{' elsewhere' if flag == '--save_index' else ''}."
        )
    return rows, source


def _is_current(kept: Path, source: Source, files: list[str]) -> bool:
    """Whether the index holds these files, none of which was written or put there later."""
    made = kept.stat().st_mtime
    return source.paths == files and all(os.stat(file).st_ctime <= made for file in files)


def _places(queries: list[str], paths: list[str]) -> list[int]:
    """Where each query stands in the index, -1 for one that is not in it."""
    names = {os.path.basename(query) for query in queries}
    places = {
        os.path.realpath(path): place
        for place, path in enumerate(paths)
        if os.path.basename(path) in names
    }
    return [places.get(os.path.realpath(query), -1) for query in queries]


def _neighbour(source: Source, place: int, squared: float) -> Neighbour:
    label = source.labels[place]
    return Neighbour(
        source.paths[place], 1 - squared / 2, source.class_names[label] if label >= 0 else None
    )


def _as_json(neighbour: Neighbour) -> dict:
    classes = {} if neighbour.class_name is None else {"class": neighbour.class_name}
    return {"path": neighbour.path, "similarity": round(neighbour.similarity, 6)} | classes


if __name__ == "__main__":
    sys.exit(main())
