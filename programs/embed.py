"""Embeddings of images, by the network of a checkpoint.

    python -m programs.embed RUN_FOLDER --from PHOTOS --to photos.npz
    python -m programs.embed CHECKPOINT --dataset cub200 --source_path DATA --split test \
        --to cub200.parquet
    python -m programs.embed RUN_FOLDER --from MILLIONS --to gallery   # again to go on
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from programs import command_line
from programs.constants import EMBEDDING_FILES, EVALTYPES, SHARD_FOLDERS

if TYPE_CHECKING:
    from datasets import ImageSplit
    from programs.shards import Plan
    from programs.trained import Trained

LOG = logging.getLogger("programs.embed")


class Flags(command_line.EmbeddingFlags):
    folder: str | None
    dataset: str | None
    source_path: Path | None
    split: str | None
    to: Path
    evaltype: str


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file, 130 interrupted."""
    return command_line.run("embed", run, parse(argv))


def parse(argv: list[str] | None) -> Flags:
    parser = command_line.build_parser(
        "embed", "Write the embeddings of images to a file, with their paths and classes."
    )
    command_line.add_checkpoint(parser)
    _add_images(parser)
    parser.add_argument(
        "--to",
        metavar="FILE|FOLDER",
        type=command_line.output,
        required=True,
        help="File to write: .npz (arrays embeddings [N, D] float32, paths, labels, class_names; "
        "label -1 is no class) or .parquet (columns path, label, class_name, embedding). Without "
        "ending, or with .shards, a folder of .npy files for galleries of any size: call again to "
        "go on after an interruption.",
    )
    parser.add_argument(
        "--evaltype",
        choices=EVALTYPES,
        default="embeds",
        help="The embedding (the default), or the pooled features below it.",
    )
    command_line.add_embedding_flags(parser)
    flags = parser.parse_args(argv, Flags())
    if flags.to.suffix not in (*EMBEDDING_FILES, *SHARD_FOLDERS):
        parser.error(
            f"argument --to: {flags.to} must end in {' or '.join(EMBEDDING_FILES)}, or in .shards "
            "or nothing for a folder"
        )
    if bool(flags.dataset) != bool(flags.source_path):
        parser.error("--dataset and --source_path go together")
    if flags.split and not flags.dataset:
        parser.error("argument --split: it chooses a part of a --dataset, and --from has none")
    return flags


def _add_images(parser: argparse.ArgumentParser) -> None:
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--from",
        dest="folder",
        metavar="FOLDER",
        help="Embed all images below this folder; its sub-folders, if any, are the classes.",
    )
    images.add_argument(
        "--dataset",
        metavar="NAME",
        help="Embed a dataset of main.py instead, found by --source_path.",
    )
    parser.add_argument(
        "--source_path",
        metavar="DIR",
        type=command_line.place,
        help="With --dataset: as in main.py.",
    )
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        help="With --dataset: which part (test).",
    )


def run(flags: Flags) -> None:
    """Find the images, load the network, and write each batch as it comes."""
    from programs import embedding_file, trained

    split = find_images(flags)
    network = trained.load(
        flags.checkpoint, flags.device, gpu=flags.gpu_index, precision=flags.precision
    )
    dim = network.dimension(flags.evaltype)
    if flags.to.suffix in SHARD_FOLDERS:
        _write_shards(flags, network, split)
    else:
        source = network.source(split, flags.evaltype)
        blocks = network.blocks(split, flags.evaltype, batch_size=flags.bs, workers=flags.kernels)
        embedding_file.write(flags.to, blocks, dim, source, "--to")
    LOG.info(
        "%s: %s of %d images, %d numbers each, %d classes.",
        flags.to,
        flags.evaltype,
        len(split),
        dim,
        len(split.class_texts),
    )


def _write_shards(flags: Flags, network: "Trained", split: "ImageSplit") -> None:
    """Embed what the folder lacks."""
    import numpy as np

    from programs import shards

    source = network.source(split, flags.evaltype)
    plan = shards.begin(flags.to, source, _plan(flags, network, split), "--to")
    left = shards.missing(flags.to, plan)
    if (count := sum(map(len, left))) < plan.shards():
        there = plan.shards() - count
        LOG.info("%s has %d of its %d shards already.", flags.to, there, plan.shards())
    for numbers in left:
        chosen = np.zeros(plan.rows, dtype=bool)
        chosen[plan.part(numbers[0]).start : plan.part(numbers[-1]).stop] = True
        blocks = network.blocks(
            split.only(chosen), flags.evaltype, batch_size=flags.bs, workers=flags.kernels
        )
        shards.write(flags.to, plan, numbers, blocks, "--to")


def _plan(flags: Flags, network: "Trained", split: "ImageSplit") -> "Plan":
    """Shards of whole batches, so that an interruption changes no batch."""
    from programs import images, shards

    origin = shards.Origin(
        network.identity, flags.evaltype, flags.precision, images.fingerprint_here(split)
    )
    rows_per_shard = -(-shards.ROWS // flags.bs) * flags.bs
    return shards.Plan(origin, len(split), network.dimension(flags.evaltype), rows_per_shard)


def find_images(flags: Flags) -> "ImageSplit":
    """What --from, or --dataset, --source_path and --split name, as far as it can be read."""
    import datasets
    from programs import images

    if flags.dataset and flags.source_path:
        splits = datasets.select(flags.dataset, str(flags.source_path))
        split = splits.training if flags.split == "train" else splits.testing
        return images.whole(split, "--dataset", flags.on_bad_image)
    return images.whole(images.below(str(flags.folder), "--from"), "--from", flags.on_bad_image)


if __name__ == "__main__":
    sys.exit(main())
