"""Nearest images to a query, by the network of a checkpoint.

    python -m programs.search RUN_FOLDER --index PHOTOS --query new.jpg \
        --save_index photos.index --picture found.png
    python -m programs.search RUN_FOLDER --index photos.index --query new.jpg
    python -m programs.search RUN_FOLDER --index MILLIONS.shards --query new.jpg \
        --index_kind ivf --save_index millions.index
"""

import argparse
import json
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from programs import command_line
from programs.constants import DRAWN_QUERIES, GALLERY, INDEX_KINDS, SAVED_INDEX

if TYPE_CHECKING:
    from programs.image_index import Neighbour

LOG = logging.getLogger("programs.search")


class Flags(command_line.EmbeddingFlags):
    index: Path
    query: list[str]
    k: int
    save_index: Path | None
    index_kind: str
    recall_sample: int
    expand: int
    expand_alpha: float
    rerank: bool
    picture: Path | None


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file, 130 interrupted."""
    return command_line.run("search", run, parse(argv))


def parse(argv: list[str] | None) -> Flags:
    parser = command_line.build_parser(
        "search",
        "Find the images most similar to each query, by cosine similarity of embeddings, and print "
        "them as JSON. A query that lies in the index itself is left out of its own neighbours; "
        "copies of it under other names are found.",
    )
    command_line.add_checkpoint(parser)
    parser.add_argument(
        "--index",
        metavar="FOLDER|FILE",
        type=command_line.place,
        required=True,
        help="Where to search: a folder of images, a folder that --save_index made, or a file or "
        "folder that programs.embed made.",
    )
    parser.add_argument(
        "--query",
        metavar="IMAGE",
        action="extend",
        nargs="+",
        required=True,
        help="Images, or folders of images.",
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
        type=command_line.place,
        help="Keep the embeddings of the --index folder there, and its faiss index, if "
        "--index_kind takes one. They are taken from there while the images and the checkpoint "
        "stay the same.",
    )
    parser.add_argument(
        "--index_kind",
        choices=INDEX_KINDS,
        default="auto",
        help="flat finds all; faiss's ivf, hnsw and pq (codes, the least memory) are faster in "
        "large galleries and miss some neighbours. auto, the default, is flat but for large "
        "folders of embeddings whose index is kept or has many queries.",
    )
    parser.add_argument(
        "--recall_sample",
        metavar="N",
        type=command_line.at_least(0),
        default=256,
        help="With an index that misses some: queries that it is compared with an exact search for "
        "(%(default)s), 0 for none.",
    )
    parser.add_argument(
        "--picture",
        metavar="FILE.png",
        type=command_line.output,
        help=f"Draw each query, of many the first {DRAWN_QUERIES}, beside its neighbours.",
    )
    _add_refining(parser)
    command_line.add_embedding_flags(parser)
    flags = parser.parse_args(argv, Flags())
    if flags.expand_alpha and not flags.expand:
        parser.error("argument --expand_alpha: it weighs the neighbours of --expand, which is 0")
    if flags.save_index and (problem := _not_kept(flags, flags.save_index)):
        parser.error(f"argument --save_index: {problem}")
    if _is_bare_index(flags.index):
        parser.error(
            f"argument --index: {flags.index} holds an index without its embeddings; give the "
            f"folder of programs.embed that it is of, with --save_index {flags.index}"
        )
    if flags.picture and flags.picture.suffix != ".png":
        parser.error(f"argument --picture: {flags.picture} must end in .png")
    return flags


def _add_refining(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "what is found first asks again",
        "Neighbours come in another order; their similarities stay those to the query itself.",
    )
    group.add_argument(
        "--expand",
        metavar="N",
        type=command_line.at_least(0),
        default=0,
        help="Search once more with the mean of the query and its N nearest (0, the default, does "
        "not).",
    )
    group.add_argument(
        "--expand_alpha",
        metavar="A",
        type=_weight,
        default=0.0,
        help="Each of these counts by its similarity to the power of A; 0, the default, counts all "
        "alike.",
    )
    group.add_argument(
        "--rerank",
        action="store_true",
        help="Order the 100 nearest, or --k if that is more, by k-reciprocal neighbours; this "
        "searches for the neighbours of the neighbours, too.",
    )


def _weight(text: str) -> float:
    try:
        if 0 <= float(text) < math.inf:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be a number of at least 0, not {text}")


def run(flags: Flags) -> None:
    """Open or make the index, embed the queries, search, print, draw."""
    from evaluation.refinement import Expansion
    from programs import image_index, images, trained
    from programs.kept_index import Indexing

    named = images.unlabelled(images.at(flags.query, "--query"))
    queries = images.whole(named, "--query", flags.on_bad_image)
    network = trained.load(
        flags.checkpoint, flags.device, gpu=flags.gpu_index, precision=flags.precision
    )
    loading = image_index.Loading(flags.bs, flags.kernels, flags.on_bad_image)
    index = image_index.open_index(network, flags.index, loading, flags.save_index)
    indexing = Indexing(flags.index_kind, _kept_in(flags), flags.recall_sample)
    refining = image_index.Refining(Expansion(flags.expand, flags.expand_alpha), flags.rerank)
    neighbours = image_index.search(network, queries, index, flags.k, loading, indexing, refining)
    results = []
    for query, nearest_to_it in zip(queries.files, neighbours):
        results.append({"query": query, "neighbours": list(map(_as_json, nearest_to_it))})
    print(json.dumps(results, indent=1), flush=True)
    if flags.picture:  # last, because images of an index may lie elsewhere by now
        image_index.draw(flags.picture, queries.files, neighbours)
        LOG.info("Drawn: %s", flags.picture)


def _not_kept(flags: Flags, folder: Path) -> str | None:
    """Why nothing of this search could be kept in a folder, or None."""
    index = flags.index
    if not index.is_dir() or (index / SAVED_INDEX).is_file():
        return "--index must be a folder of images, or one that programs.embed made"
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file; it takes a folder"
    if flags.index_kind == "flat" and (index / GALLERY).is_file():
        return f"--index_kind flat needs no index, and {index} holds the embeddings already"
    return None


def _is_bare_index(folder: Path) -> bool:
    """Whether it is what --save_index made for shards that lie elsewhere."""
    endings = {file.suffix for file in folder.glob("*")}
    return ".faiss" in endings and endings <= {".faiss", ".json"}


def _kept_in(flags: Flags) -> Path | None:
    """Where an index of faiss is kept: beside the embeddings that it is of."""
    is_saved = (flags.index / SAVED_INDEX).is_file()
    return flags.save_index or (flags.index if is_saved else None)


def _as_json(neighbour: "Neighbour") -> dict[str, str | float]:
    values: dict[str, str | float] = {"path": neighbour.path}
    values["similarity"] = round(neighbour.similarity, 6)
    if neighbour.class_name is not None:
        values["class"] = neighbour.class_name
    return values


if __name__ == "__main__":
    sys.exit(main())
